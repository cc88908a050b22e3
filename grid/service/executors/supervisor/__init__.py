"""The processes between the service and a script: one spawner, and one supervisor for each experiment.

They run under the service's interpreter with nothing but the standard library, and import from Grid only what costs
next to nothing: this package, and the modules of `grid.service.system` and `grid.shared` whose docstrings allow it.
`grid` itself is not imported there, see `grid.service.executors.spawner_client`. Nothing here knows about databases,
users or GraphQL.

Every experiment pays for what is done here, so each access to the disk and each system call counts.
"""

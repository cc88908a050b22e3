"""The processes between the service and a script: one spawner, and one supervisor for each experiment.

They run under the service's interpreter with nothing but the standard library, and import of Grid only what costs
nothing: this package, and single modules of `grid.service.system` and `grid.shared` that say so. `grid` itself is not
imported there, see `grid.service.executors.spawner_client`. Nothing here knows of databases, users or GraphQL.

All of it is paid once for each experiment, so it counts how often the disk and the kernel are asked.
"""

"""Whatever is sent to the service, its answer is a proper one, and its log has no fault: documents, values, bytes."""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import graphql as gql
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.graphql import nodes

from grid import Run
from grid.session.session import Session
from tests.faults import sizes
from tests.faults.anything import SCHEMA, Judge, Operation, least, operations, put, texts_in, values_of
from tests.faults.archives import REFUSED, file
from tests.support.experiments import only, starter
from tests.support.raw_http import JSON, Line, address_of, call, graphql, key_of, socket_to
from tests.support.services import ServiceProcess
from tests.support.uploads import announced, path_for

pytestmark = pytest.mark.timeout(sizes.size(180, 3_600))

MIB = 2**20
OPERATIONS = list(operations())

DRAWN = settings(
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)


@pytest.fixture
def judge(service: ServiceProcess) -> Iterator[Judge]:
    """A judge that reads the answers of a test, and at its end the log."""
    judge = Judge(service)
    yield judge
    judge.read_log()


@pytest.fixture
def run(session: Session, tmp_path: Path) -> Run:
    """A run that exists."""
    return starter(tmp_path)("print(1)")


@pytest.fixture
def known(service: ServiceProcess, run: Run) -> dict[str, list[Any]]:
    """Values that mean something to the service, by what they are for; with these, most requests would succeed."""
    experiment = only(run)
    content = file("run.py", b"print(1)") + bytes(1024)
    announced_now = announced(service, content)
    if not announced_now["stored"]:
        assert call(service, "PUT", announced_now["uploadPath"], body=content).status == 204
    return {
        "": [run.name, run.id, experiment.name, experiment.id, service.username, service.endpoint.user_id],
        "name": [run.name, experiment.name, None, ""],
        "id": [run.id, experiment.id],
        "owner": [service.username, None],
        "first": [1, 10],
        "after": [None],
        "waitSeconds": [0, 0.01],
        "key": ["k" * 16, "l" * 64, "m-" * 20, "N_" * 20],
        "snapshot": [hashlib.sha256(content).hexdigest()],
        "script": ["run.py"],
        "entrypoint": ["run.py"],
        "scriptArgs": ["", "--x 'range(3)'", "--x '[1, 2]' --y 'uniform(0, 1, 2)'", "--x 1"],
        "strategy": ["GRID_SEARCH", "RANDOM_SEARCH", "NONE"],
        "numTrials": [0, 1, 5],
        "seed": [None, 0, 2**31 - 1],
        "environment": [{}, {"A": "b"}, None],
        "actions": [None, {}],
        "instanceType": ["t2.medium"],
        "framework": ["LIGHTNING"],
        "cluster": ["", "local"],
        "cpus": [0, 1],
        "gpus": [0],
        "timeout": [None, 1, 1e9],
        **{name: [""] for name in ("memory", "datastoreName", "datastoreVersion", "datastoreMountDir", "scratchSize")},
        "dockerfile": [""],
        "dependencyFile": ["", "requirements.txt"],
        "interpreter": [None, "/usr/bin/python3"],
        "description": [None, "words"],
    }


def string_maps() -> st.SearchStrategy[gql.ValueNode]:
    """Literals that are a StringMap, and some that are not."""
    fields = st.dictionaries(
        st.from_regex(r"\A[A-Z_]{1,5}\Z"), st.text(max_size=5).map(nodes.String) | st.just(nodes.Int("1"))
    )
    return fields.map(
        lambda drawn: gql.ObjectValueNode(
            fields=tuple(
                gql.ObjectFieldNode(name=gql.NameNode(value=name), value=value) for name, value in drawn.items()
            )
        )
    )


schemathesis.graphql.scalar("StringMap", string_maps())


def test_documents_from_the_schema(service: ServiceProcess, judge: Judge) -> None:
    """Every operation of the schema, with what its types allow and with what they do not, as schemathesis writes it."""
    schema = schemathesis.graphql.from_path(Path(__file__).parents[2] / "schema.graphql")
    wanted, begun, labels = sizes.size(150, 5_200), time.monotonic(), []
    made = [result.ok() for result in schema.get_all_operations()]
    with Line(service) as line:

        def send(case: Any) -> None:
            body = graphql(case.body)
            judge.read(line.call("POST", "/graphql", [JSON, key_of(service)], body), case.body)

        # Some operations have few documents: what is left of their share goes to those after them.
        for number, operation in enumerate(
            sorted(made, key=lambda each: len(SCHEMA.type_map) if "(" in each.label else 0)
        ):
            labels.append(operation.label)
            for half, mode in enumerate((GenerationMode.POSITIVE, GenerationMode.NEGATIVE)):
                shares = 2 * (len(made) - number) - half
                share = max(1, -(-(wanted - judge.cases) // shares))
                drawn = settings(DRAWN, max_examples=share)(given(operation.as_strategy(generation_mode=mode))(send))
                seed(sizes.seed())(drawn)()
    assert sorted(labels) == sorted(operation.name for operation in OPERATIONS)
    assert judge.cases >= wanted
    seconds = time.monotonic() - begun
    sizes.figure(f"bad input: {len(labels)} operations, {judge}, in {seconds:.1f} s, no fault (seed {sizes.seed()})")


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_values_of_any_kind(service: ServiceProcess, judge: Judge, operation: Operation, known: Any) -> None:
    """Every argument of every operation with values of its kind, at the ends and beyond, and with any other JSON."""
    arguments = {name: values_of(name, type_, known) for name, type_ in operation.arguments.items()}
    whole, parts = st.fixed_dictionaries(arguments), st.fixed_dictionaries({}, optional=arguments)
    variables = st.integers(0, 9).flatmap(lambda draw: whole if draw else parts)
    with Line(service) as line:

        @seed(sizes.seed())
        @settings(DRAWN, max_examples=sizes.size(15, 300))
        @given(variables)
        def send(drawn: dict[str, Any]) -> None:
            body = graphql(operation.document, variables=drawn)
            judge.read(line.call("POST", "/graphql", [JSON, key_of(service)], body), (operation.document, drawn))

        send()
    assert judge.cases
    sizes.figure(f"values of any kind: {operation}, {judge} (seed {sizes.seed()})")


LETTERS = "x\u20ac"[: sizes.size(1, 2)]
TEXTS = [
    (operation, argument, path)
    for operation in OPERATIONS
    for argument, type_ in operation.arguments.items()
    for path in texts_in(type_)
]


@pytest.mark.parametrize("size", [MIB, 1_000_000, 100_000])
def test_large_texts_in_every_field(service: ServiceProcess, judge: Judge, size: int) -> None:
    """A text of 1 MiB in any field of any argument is refused, or taken; so is one as long as is let through at all."""
    content = file("run.py", b"%d" % size) + bytes(1024)
    assert call(service, "PUT", path_for(service, content), body=content).status == 204
    digest = hashlib.sha256(content).hexdigest()
    with Line(service) as line:
        for number, (operation, argument, path) in enumerate(TEXTS):
            fields = {
                "entrypoint": "run.py",
                "script": "run.py",
                "snapshot": digest,
                "key": f"{size}-{number}-{'k' * 16}",
            }
            for letter in LETTERS:
                variables = {name: least(type_, fields) for name, type_ in operation.arguments.items()}
                variables[argument] = put(variables[argument], path, letter * size)
                body = graphql(operation.document, variables=variables)
                answer = line.call("POST", "/graphql", [JSON, key_of(service)], body)
                judge.read(answer, (operation.name, argument, path))
                if size == MIB and path[-1:] != ("scriptCommand",):  # which may have more
                    assert answer.codes == ["LIMIT_EXCEEDED"], (operation.name, argument, path, answer)
    assert judge.cases == len(LETTERS) * len(TEXTS)
    assert len(TEXTS) > 40


def test_large_texts_around_them(service: ServiceProcess, judge: Judge) -> None:
    """The same for everything that is not an argument: the document, names, what is never read."""
    huge = "x" * MIB
    for body in (
        graphql(huge),
        graphql('{ run(name: "' + huge + '") { id } }'),
        graphql("{ " + huge + " }"),
        graphql("{ apiVersion } #" + huge),
        graphql("{ apiVersion }", operationName=huge),
        graphql("query A { apiVersion }", operationName=huge),
        graphql("{ apiVersion }", extensions={huge: huge}),
        graphql("{ apiVersion }", variables={huge: 1}),
        graphql("{ apiVersion }", **{huge: huge}),
        json.dumps(huge).encode(),
        huge.encode(),
        huge.encode("utf-16"),
    ):
        judge.read(call(service, headers=[JSON, key_of(service)], body=body), body[:50])


@seed(sizes.seed())
@settings(DRAWN, max_examples=sizes.size(60, 1_000))
@given(body=st.data())
def test_bodies_of_any_kind(service: ServiceProcess, body: st.DataObject) -> None:
    """Bodies that are not a GraphQL request, not JSON or not text: each is refused as such."""
    judge = Judge(service)
    whole = graphql("query Q($n: Int!) { runs(first: $n) { totalCount } }", variables={"n": 1}, operationName="Q")
    kind = body.draw(st.sampled_from(["bytes", "altered", "cut", "json", "parts"]))
    if kind == "bytes":
        sent = body.draw(st.binary(max_size=200))
    elif kind == "json":
        value = st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        )
        sent = json.dumps(body.draw(value)).encode()
    elif kind == "parts":
        anything = st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2) | st.just({})
        names = ("query", "variables", "operationName", "extensions", "id")
        sent = json.dumps(body.draw(st.fixed_dictionaries({}, optional=dict.fromkeys(names, anything)))).encode()
    else:
        place = body.draw(st.integers(0, len(whole)))
        sent = whole[:place] if kind == "cut" else whole[:place] + body.draw(st.binary(max_size=3)) + whole[place + 1 :]
    judge.read(call(service, headers=[JSON, key_of(service)], body=sent), sent)
    judge.read_log()


def test_uploads_of_any_kind(service: ServiceProcess, judge: Judge) -> None:
    """Uploads that are cut, altered, or noise, under an address that was given for just that: taken or refused."""
    draw = random.Random(sizes.seed())
    wholes = [content for content in REFUSED.values() if content] + [file("run.py", b"x" * 400) + bytes(1024)] * 20
    statuses: dict[int, int] = {}
    for number in range(sizes.size(40, 1_000)):
        content = bytearray(draw.choice(wholes) if number % 4 else draw.randbytes(draw.randrange(1, 3_000)))
        for _ in range(draw.randrange(4)):
            place = draw.randrange(len(content))
            content[place : place + draw.randrange(3)] = draw.randbytes(draw.randrange(3))
            content = content or bytearray(b"x")
        # Without a path it is stored already: one of the wholes was drawn again, and nothing of it altered.
        path = announced(service, bytes(content))["uploadPath"] if content else None
        if path:
            answer = call(service, "PUT", path, body=bytes(content))
            statuses[answer.status] = statuses.get(answer.status, 0) + 1
            assert answer.status in (204, 400), (answer, bytes(content)[:2_000])
            assert str(service.home).encode() not in answer.body
    assert list((service.home / "incoming").iterdir()) == []
    sizes.figure(f"malformed uploads: {statuses} (seed {sizes.seed()})")


UPGRADE = (
    b"GET /graphql HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
GARBAGE = [
    b"", b"\0", b"\r\n", b"\n\n\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"HELO localhost\r\n", b"GET",
    b"GET /\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n", b" / HTTP/1.1\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello",
    b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, x\r\n\r\n",
    b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
    b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhel",
    b"GET /graphql HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    b"GET /graphql HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    UPGRADE + b"\r\n\xff\xff\xff\xff\xff\xff",
    UPGRADE + b"Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n\x81\xfe\xff\xff",
]  # fmt: skip


def test_bytes_of_any_kind(service: ServiceProcess, judge: Judge) -> None:
    """What is not HTTP, or only half or nearly so, does no harm: the service hangs up and answers the next request."""
    draw = random.Random(sizes.seed())
    whole = (
        b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    )
    drawn = list(GARBAGE)
    for _ in range(sizes.size(60, 1_000)):
        altered = bytearray(draw.choice([whole, *GARBAGE]) or b"x")
        for _ in range(draw.randrange(1, 4)):
            place = draw.randrange(len(altered) + 1)
            altered[place : place + draw.randrange(5)] = draw.randbytes(draw.randrange(5))
        drawn.append(bytes(altered[: draw.randrange(len(altered) + 1)] if draw.random() < 0.2 else altered))
    for sent in drawn:
        with socket_to(*address_of(service)) as line, suppress(ConnectionError):
            line.sendall(sent)
            line.shutdown(1)
            received = b""
            while part := line.recv(10_000):
                received += part
            assert b" 500 " not in received.partition(b"\r\n")[0], (sent, received)
    assert call(service, "GET", "/health").status == 200


def test_connections_that_say_nothing(service: ServiceProcess, judge: Judge) -> None:
    """Many connections that are left open, or cut in the middle of a request, keep no other client out."""
    lines = [socket_to(*address_of(service)) for _ in range(sizes.size(50, 300))]
    try:
        for number, line in enumerate(lines):
            line.sendall(
                [b"", b"GET", b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{"][number % 3]
            )
        assert call(service, "GET", "/health").status == 200
    finally:
        for line in lines:
            line.close()
    with suppress(http.client.HTTPException):
        assert call(service, "GET", "/health").status == 200

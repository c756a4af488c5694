"""Cluster files, and the filter that narrows who may connect to a worker."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphsplit.errors import FormatError, GraphSplitError
from graphsplit.inference.cluster import read_cluster
from graphsplit.worker.listening import listen_only_on, packet_filter


def test_a_cluster_says_where_its_tasks_are(tmp_path):
    file = tmp_path / "c.json"
    file.write_text('{"gpu": ["10.0.0.5:2222"], "cpu": ["a-host.example:1", "b_2:65535"]}')
    cluster = read_cluster(file)
    assert cluster.address("cpu", 1) == "b_2:65535"
    assert cluster.task_at("a-host.example:1") == ("cpu", 0)
    assert cluster.task_at("elsewhere:1") is None
    assert read_cluster(cluster) is cluster
    for job, task, told in (("tpu", 0, "no job 'tpu'; there are gpu, cpu"), ("cpu", 2, "it has 2"), ("cpu", -1, "no task -1")):
        with pytest.raises(LookupError, match=told):
            cluster.address(job, task)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({}, r"no job in it; write a cluster such as \{\"job\""),
        ({"a b": ["h:1"]}, r"\$\.a b: not the name of a job"),
        ({"localhost": ["h:1"]}, "TensorFlow's name for the process itself"),
        ({"gpu": []}, "job 'gpu' has no address"),
        ({"gpu": {"0": "h:1"}}, r"\$\.gpu: expected array, got object"),
        ({"gpu": [5]}, r"\$\.gpu\[0\]: expected str, got int"),
        ({"gpu": ["h"]}, "write host:port"),
        ({"gpu": ["h:0"]}, "1 to 65535"),
        ({"gpu": ["h:65536"]}, "1 to 65535"),
        ({"gpu": ["h:x"]}, "1 to 65535"),
        ({"gpu": ["0.0.0.0:1"]}, "every address of a machine"),
        ({"gpu": ["[::1]:1"]}, "no IPv6 address"),
        ({"gpu": ["grpc://h:1"]}, "no IPv6 address"),
        ({"gpu": ["h/x:1"]}, "write host:port"),
        ({"gpu": ["h:1"], "cpu": ["h:1"]}, "task 0 of job 'cpu' and task 0 of job 'gpu' are both at h:1"),
    ],
)
def test_what_is_no_cluster_is_refused(content, told):
    with pytest.raises(FormatError, match=told):
        read_cluster(content)


def test_a_file_that_is_no_cluster_is_named(tmp_path):
    file = tmp_path / "c.json"
    for text in ("[]", "3", "{", '"x"'):
        file.write_text(text)
        with pytest.raises(FormatError, match=r"c\.json"):
            read_cluster(file)
    with pytest.raises(FormatError, match="cannot be read"):
        read_cluster(tmp_path / "none.json")


def takes(program: bytes, packet: bytes) -> bool:
    """Run a classic BPF program on a packet that begins with its IP header, as the kernel would."""
    code = [struct.unpack_from("HBBI", program, i) for i in range(0, len(program), 8)]
    at = value = 0
    while True:
        operation, yes, no, k = code[at]
        at += 1
        if operation in (0x20, 0x30):  # load from behind SKF_NET_OFF
            size = 4 if operation == 0x20 else 1
            start = k - 0xFFF00000
            if not 0 <= start <= len(packet) - size:
                return False  # a load out of the packet drops it
            value = int.from_bytes(packet[start : start + size], "big")
        elif operation == 0x74:
            value >>= k
        elif operation == 0x15:
            at += yes if value == k else no
        else:
            assert operation == 0x06
            return k != 0


def packet(to: IPv4Address | IPv6Address) -> bytes:
    if to.version == 4:
        return bytes([0x45]) + bytes(15) + to.packed + bytes(20)
    return bytes([0x60]) + bytes(23) + to.packed + bytes(20)


addresses = st.one_of(st.ip_addresses(), st.sampled_from([ip_address("127.0.0.1"), ip_address("::1"), ip_address("::ffff:7f00:1")]))


@given(st.lists(addresses, max_size=16), addresses)
def test_the_filter_takes_what_was_sent_to_its_addresses_and_nothing_else(own, other):
    program = packet_filter(own)
    assert all(takes(program, packet(a)) for a in own)
    assert takes(program, packet(other)) == (other in own)


def test_the_filter_drops_what_is_no_ip_and_what_is_cut_short():
    program = packet_filter([ip_address("127.0.0.1"), ip_address("::1")])
    assert not takes(program, bytes([0x55]) + bytes(60))
    assert not takes(program, packet(ip_address("127.0.0.1"))[:18])
    assert not takes(program, b"")


def test_more_addresses_than_a_filter_holds_are_refused():
    with pytest.raises(GraphSplitError, match="up to 16 addresses, not 17"):
        packet_filter([IPv4Address(i) for i in range(17)])


def test_a_port_on_which_nobody_listens_is_no_success():
    with pytest.raises(GraphSplitError):
        listen_only_on(1, [ip_address("127.0.0.1")])

"""The evaluator that judges the planner must itself be right: values, loops, conds, state, and what it refuses."""

from __future__ import annotations

import pytest

from tests.interpreter import IllegalGraph, Program, RanTwice, Token, written

# while (i < limit): i += 1, x = x + x, and then y
DOUBLING = """
    x      Placeholder
    zero   Const=0
    i0     Enter/while           zero
    x0     Enter/while           x
    i      Merge                 i0 i_next
    v      Merge                 x0 v_next
    limit  Const=3               ^i
    less   Less                  i limit
    more   LoopCond              less
    i_sw   Switch                i more
    v_sw   Switch                v more
    i_in   Identity              i_sw:1
    v_in   Identity              v_sw:1
    one    Const=1               ^i_in
    i_add  AddV2                 i_in one
    v_add  AddV2                 v_in v_in
    i_next NextIteration         i_add
    v_next NextIteration         v_add
    count  Exit                  i_sw:0
    out    Exit                  v_sw:0
    """

# x if p else 2 · x
CHOICE = """
    p     Const={p}
    x     Placeholder
    fork  Switch  x p
    two   AddV2   fork:0 fork:0
    one   Relu    fork:1
    y     Merge   two one
    """


def value(program: Program, tensor: str, **feeds: int) -> int:
    given = {f"{name}:0": Token(number) for name, number in feeds.items()}
    return program.run([tensor], given=given)[tensor].value


def test_a_loop_goes_round_until_its_condition_is_false() -> None:
    assert value(written(DOUBLING), "count:0", x=5) == 3
    assert value(written(DOUBLING), "out:0", x=5) == 40


def test_a_loop_that_does_not_start_gives_what_went_in() -> None:
    assert value(written(DOUBLING.replace("Const=3", "Const=0")), "out:0", x=5) == 5


def test_a_loop_that_does_not_end_is_refused() -> None:
    with pytest.raises(IllegalGraph, match="'while' does not end"):
        value(written(DOUBLING.replace("Const=3", "Const=99")), "out:0", x=5)


def test_a_loop_in_a_loop_turns_in_each_iteration() -> None:
    """Two turns around three: each outer turn adds what the inner loop counts."""
    inner = """
        j0      Enter/inner           total_in
        n       Enter/inner/constant  three
        j       Merge                 j0 j_next
        k0      Enter/inner           nought
        k       Merge                 k0 k_next
        j_less  Less                  k n
        j_more  LoopCond              j_less
        j_sw    Switch                j j_more
        k_sw    Switch                k j_more
        j_in    Identity              j_sw:1
        k_in    Identity              k_sw:1
        j_one   Const=1               ^j_in
        j_add   AddV2                 j_in j_one
        k_add   AddV2                 k_in j_one
        j_next  NextIteration         j_add
        k_next  NextIteration         k_add
        j_out   Exit                  j_sw:0
        """
    outer = """
        zero      Const=0
        three     Const=3               ^total_in
        nought    Const=0               ^total_in
        i0        Enter/outer           zero
        t0        Enter/outer           zero
        i         Merge                 i0 i_next
        total     Merge                 t0 t_next
        two       Const=2               ^i
        less      Less                  i two
        more      LoopCond              less
        i_sw      Switch                i more
        t_sw      Switch                total more
        i_in      Identity              i_sw:1
        total_in  Identity              t_sw:1
        one       Const=1               ^i_in
        i_add     AddV2                 i_in one
        i_next    NextIteration         i_add
        t_next    NextIteration         j_out
        result    Exit                  t_sw:0
        """
    assert value(written(outer + inner), "result:0") == 6


@pytest.mark.parametrize(("predicate", "which"), [(0, 0), (1, 1)])
def test_a_merge_gives_the_branch_that_is_alive_and_says_which(predicate: int, which: int) -> None:
    program = written(CHOICE.format(p=predicate))
    assert value(program, "y:1", x=21) == which
    assert (value(program, "y:0", x=21) == 42) == (predicate == 0)


def test_a_dead_tensor_cannot_be_fetched() -> None:
    with pytest.raises(IllegalGraph, match="one:0 is dead"):
        value(written(CHOICE.format(p=0)), "one:0", x=21)


def test_a_loop_in_a_branch_that_is_not_taken_is_dead() -> None:
    dead = DOUBLING.replace("x      Placeholder", "p Const=1\n in Placeholder\n fork Switch in p\n x Identity fork:0")
    assert value(written(dead + "end Merge out fork:1\n"), "end:0", **{"in": 5}) == 5


def test_ports_and_the_order_of_inputs_make_a_difference() -> None:
    program = written("""
        x    Placeholder
        two  TopKV2   x x
        a    BiasAdd  two:0 two:1
        b    BiasAdd  two:1 two:0
        c    MatMul   two:0 two:1
        """)
    assert len({value(program, t, x=3) for t in ("two:0", "two:1", "a:0", "b:0", "c:0")}) == 5


ORDERED = """
    x       Placeholder
    first   RandomUniform  x
    between {between}
    second  RandomUniform  x {after}
    """


@pytest.mark.parametrize("between", ["NoOp ^first", "Identity first", "Const ^first", "Assert first"])
def test_an_order_of_stateful_nodes_changes_the_value_however_it_is_passed_on(between: str) -> None:
    ordered = written(ORDERED.format(between=between, after="^between"))
    loose = written(ORDERED.format(between=between, after=""))
    assert value(ordered, "second:0", x=3) != value(loose, "second:0", x=3)
    directly = written(ORDERED.format(between=between, after="^first"))
    assert value(ordered, "second:0", x=3) == value(directly, "second:0", x=3)


def test_a_stateful_node_runs_in_one_section_only() -> None:
    program = written("x Placeholder\n r RandomUniform x\n")
    log: dict[str, str] = {}
    for _ in range(2):
        program.run(["r:0"], section="main", log=log)
    assert log == {"r": "main"}
    with pytest.raises(RanTwice, match="r holds state and ran in main and in post"):
        program.run(["r:0"], section="post", log=log)


def test_a_section_sees_its_nodes_and_its_inputs_only() -> None:
    program = written("x Placeholder\n a Relu x\n b Relu a\n")
    given = {"x:0": Token(1)}
    with pytest.raises(IllegalGraph, match="b reads a:0, which section post neither makes nor is given"):
        program.run(["b:0"], nodes=["b"], given=given, section="post")
    with pytest.raises(IllegalGraph, match="nothing makes a:0 in section post"):
        program.run(["a:0"], nodes=[], given=given, section="post")
    with pytest.raises(IllegalGraph, match="x is an input of the whole"):
        program.run(["a:0"], nodes=["x", "a"], given=given, section="post")
    whole = program.run(["a:0", "b:0"], given=given)
    assert program.run(["b:0"], nodes=["b"], given={"a:0": whole["a:0"]}) == {"b:0": whole["b:0"]}


@pytest.mark.parametrize(
    ("handle", "text"),
    [
        ("v:0", "v VarHandleOp\n r ReadVariableOp v\n"),
        ("set:0", "n Const\n l TensorListReserve n n\n set TensorListSetItem l n n\n s TensorListStack set n\n"),
        ("a:1", "n Const\n a TensorArrayV3 n\n w TensorArrayWriteV3 a n n a:1\n g TensorArrayGatherV3 a n w\n"),
        ("id:0", "v VarHandleOp\n id Identity v\n r ReadVariableOp id\n"),
    ],
)
def test_a_handle_cannot_be_fetched(handle: str, text: str) -> None:
    program = written(text)
    assert program.run(program.index.outputs)
    with pytest.raises(IllegalGraph, match=f"{handle} is a handle"):
        program.run([handle])


@pytest.mark.parametrize("tensor", ["i:0", "i0:0", "i_next:0", "v_add:0"])
def test_a_tensor_leaves_its_loop_through_exit_only(tensor: str) -> None:
    with pytest.raises(IllegalGraph, match=r"no loop|outside of it"):
        value(written(DOUBLING), tensor, x=5)


def test_a_tensor_enters_a_loop_through_enter_only() -> None:
    nodes = [n.name for n in written(DOUBLING).index.nodes if n.name not in ("x", "v_in")]
    with pytest.raises(IllegalGraph, match="v_in:0 is given from outside and read inside of the loop 'while'"):
        written(DOUBLING).run(["out:0"], nodes=nodes, given={"x:0": Token(5), "v_in:0": Token(1)})
    with pytest.raises(IllegalGraph, match="zero is outside of loops and read inside"):
        value(written(DOUBLING.replace("v_in v_in", "v_in zero")), "out:0", x=5)

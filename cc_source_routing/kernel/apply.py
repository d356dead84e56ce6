"""Make the kernel match a plan, or leave it as it was.

The order comes from the diff; here the operations are run, read back, and taken
back when the kernel refuses one.  Taking back is one more diff, with the state
before as the wanted one, so that it is right wherever the failure was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Tuple

from ..errors import SourceRoutingError, VerifyError
from ..model import HostState, RoutingPlan
from .diff import Footprint, Operation, diff, present, wanted
from .read import observe_ours

if TYPE_CHECKING:
    from .netlink import Kernel


def operations_for(plan: RoutingPlan, state: HostState) -> Tuple[Operation, ...]:
    """What an apply would do; () when the kernel is as planned."""
    return diff(wanted(plan, state), present(state, plan))


def apply_plan(
    kernel: Kernel, plan: RoutingPlan, state: HostState, operations: Tuple[Operation, ...]
) -> Tuple[Operation, ...]:
    """Run `operations`, which are what `operations_for` says, and read the kernel back.

    Returns the operations done.  Raises `ApplyError` with the operation that
    the kernel refused, or `VerifyError` when it took all and still differs;
    in both cases what was done has been taken back.
    """
    if not operations:
        return ()
    target = wanted(plan, state)
    try:
        kernel.execute(operations)
        left = _left(kernel, plan, state, target)
        if left:
            # Somebody changed the kernel meanwhile (a hook's own batch, say).
            kernel.execute(left)
            left = _left(kernel, plan, state, target)
        if left:
            raise VerifyError([f"still to do: {operation.describe()}" for operation in left])
    except BaseException:
        _take_back(kernel, plan, state)
        raise
    return operations


def _left(
    kernel: Kernel, plan: RoutingPlan, before: HostState, target: Footprint
) -> Tuple[Operation, ...]:
    return diff(target, present(observe_ours(kernel, before), plan))


def _take_back(kernel: Kernel, plan: RoutingPlan, before: HostState) -> None:
    earlier = present(before, plan)
    for _attempt in range(2):
        try:
            undo = diff(earlier, present(observe_ours(kernel, before), plan))
            if not undo:
                return
            kernel.execute(undo)
        except SourceRoutingError:
            # The first error is the one to tell; a second try reads afresh.
            continue

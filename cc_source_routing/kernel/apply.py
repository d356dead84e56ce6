"""Make the kernel match a plan, or leave it unchanged.

The diff gives the order.  This module runs the operations, reads the result back, and
reverts them if the kernel refuses one.  Reverting is another diff, with the previous state
as the wanted one, so that it is correct wherever the failure occurred.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import SourceRoutingError, VerifyError
from ..model import HostState, RoutingPlan
from .diff import Footprint, Operation, diff, kept, present, wanted
from .read import observe_ours

if TYPE_CHECKING:
    from .netlink import Kernel


def operations_for(
    plan: RoutingPlan, state: HostState, keep: bool = False
) -> tuple[Operation, ...]:
    """The operations of an apply; () when the kernel already matches the plan.

    With `keep` nothing is removed.
    """
    return diff(_target(plan, state, keep), present(state, plan))


def apply_plan(
    kernel: Kernel,
    plan: RoutingPlan,
    state: HostState,
    operations: tuple[Operation, ...],
    keep: bool = False,
) -> tuple[Operation, ...]:
    """Run `operations`, the result of `operations_for`, and read the kernel back.

    Returns the operations done.  Raises `ApplyError` with the operation that the kernel
    refused, or `VerifyError` when it accepted all and still differs; in both cases the
    changes have been reverted.
    """
    if not operations:
        return ()
    target = _target(plan, state, keep)
    try:
        kernel.execute(operations)
        remaining = _remaining(kernel, plan, state, target)
        if remaining:
            # Another program changed the kernel meanwhile (for example a hook's own batch).
            kernel.execute(remaining)
            remaining = _remaining(kernel, plan, state, target)
        if remaining:
            raise VerifyError([f"still to do: {operation.describe()}" for operation in remaining])
    except BaseException:
        _revert(kernel, plan, state)
        raise
    return operations


def restore(kernel: Kernel, plan: RoutingPlan, state: HostState) -> tuple[Operation, ...]:
    """Add what is missing of an applied plan; reads only our own part of the kernel.

    Returns the operations done.  Raises `ApplyError` where more has changed than that.
    """
    missing = _remaining(kernel, plan, state, wanted(plan, state))
    kernel.execute(missing)
    return missing


def _target(plan: RoutingPlan, state: HostState, keep: bool) -> Footprint:
    target = wanted(plan, state)
    return kept(target, present(state, plan)) if keep else target


def _remaining(
    kernel: Kernel, plan: RoutingPlan, before: HostState, target: Footprint
) -> tuple[Operation, ...]:
    return diff(target, present(observe_ours(kernel, before), plan))


def _revert(kernel: Kernel, plan: RoutingPlan, before: HostState) -> None:
    earlier = present(before, plan)
    for _attempt in range(2):
        try:
            undo = diff(earlier, present(observe_ours(kernel, before), plan))
            if not undo:
                return
            kernel.execute(undo)
        except SourceRoutingError:
            # The caller reports the first error; the second attempt reads the state again.
            continue

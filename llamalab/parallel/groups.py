"""The check that ranks do not split the groups of a quantised storage."""

from llamalab.analytic.parallel import shard
from llamalab.arch import LlamaArch
from llamalab.errors import InputError
from llamalab.units import group_in_row


def check_groups(arch: LlamaArch, ranks: int, storage: str | None) -> None:
    """Raise InputError where a rank's part of a row of wo or w2 has other groups than the whole row.

    With the same groups a rank's codes equal those of the whole matrix. A scale for each row needs the whole row.

    >>> from llamalab.presets import PRESETS
    >>> check_groups(PRESETS["7b"].arch, 2, "int4"), check_groups(PRESETS["7b"].arch, 2, None)
    (None, None)
    """
    if storage is None or group_in_row(storage, arch.dim) == arch.dim:
        return
    part = shard(arch, ranks)
    for name, whole, own in (("wo", arch.query_dim, part.query_dim), ("w2", arch.ffn_dim, part.ffn_dim)):
        wanted, found = group_in_row(storage, whole), group_in_row(storage, own)
        if wanted != found:
            raise InputError(
                f"a rank's rows of {name} must be whole groups of {wanted} to be stored in {storage}; "
                f"one of {ranks} ranks has {own} of {whole} weights; take fewer ranks or int8, which has a scale a row"
            )

"""Quantisation of a whole model's matrices, one by one; plain weights are freed."""

from collections import Counter, defaultdict
from collections.abc import Callable

from torch import nn

from llamalab.errors import UnknownNameError
from llamalab.model.quantised.codes import Codes, Largest, coded
from llamalab.model.quantised.linear import QuantisedLinear
from llamalab.units import QUANTISED, KeptWeights, group_in_row

Origin = Callable[[str], Codes | None]


def quantise_weights(
    model: nn.Module,
    storage: str,
    *,
    kernel_rows: int | None = None,
    stored: Origin = lambda name: None,
    over_parts: Callable[[nn.Module], Largest | None] | None = None,
) -> None:
    """Put a QuantisedLinear in the place of every nn.Linear of `model`.

    Embeddings and norms stay as they are, a head that is the embedding too, and matrices whose rows are no groups of
    the storage (`units.group_in_row`). A weight that several layers share is coded once.

    Args:
        model: on one device, in the dtype of its activations.
        storage: a name of units.QUANTISED.
        kernel_rows: rows up to which a kernel multiplies codes as they are (default: products.KERNEL_ROWS).
        stored: gives the codes of a weight by its name where they are known; None: the weight is coded.
        over_parts: for layers with some columns of a weight, as on a rank: from their largest values to whole rows'.

    Raises UnknownNameError.
    """
    if storage not in QUANTISED:
        raise UnknownNameError("weight dtype", storage, QUANTISED)
    homes: dict[int, list[tuple[nn.Module, str, str]]] = defaultdict(list)
    for path, module in model.named_modules():
        for name, child in module.named_children():
            if type(child) is nn.Linear and group_in_row(storage, child.in_features) is not None:
                homes[id(child.weight)].append((module, name, f"{path}.{name}.weight".lstrip(".")))
    for places in homes.values():
        plain: nn.Linear = getattr(*places[0][:2])
        codes = stored(places[0][2])
        largest = None if over_parts is None else over_parts(plain)
        codes = coded(plain.weight, storage, over_parts=largest) if codes is None else codes
        first = QuantisedLinear.of(codes, storage, plain.weight.dtype)
        if kernel_rows is not None:
            first.kernel_rows = kernel_rows
        for module, name, _ in places:
            made = first.sharing(getattr(module, name).bias)
            made._forward_hooks = getattr(module, name)._forward_hooks  # the hooks of collectives
            setattr(module, name, made)


def quantised_layers(model: nn.Module) -> list[QuantisedLinear]:
    """The layers of a model whose weights are quantised."""
    return [module for module in model.modules() if isinstance(module, QuantisedLinear)]


def kept_of(model: nn.Module) -> KeptWeights | None:
    """The storage of a model's matrices, and the kernel that multiplies most of them; None where none is quantised."""
    layers = quantised_layers(model)
    if not layers:
        return None
    names = Counter(layer.kernel.name for layer in layers)
    rows = None if layers[0].kernel.widen is None else layers[0].kernel_rows
    return KeptWeights(layers[0].storage, names.most_common(1)[0][0], rows)

"""Where networks compute: a device and the precision of the weights there, chosen once by a process.

Knows nothing of networks. Torch is imported only where a tensor is made or a card is looked for: what needs neither
takes a ``Placement`` without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadRequest, MindsightError
from mindsight.features import Array

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Placement:
    """A device, and the dtype of weights and features there; both by torch's names.

    On the CPU features are float32 NumPy arrays, as in a process without torch. On any other device they are tensors
    that stay there, and the host waits for none of them until it asks for a value (``on_host``). ``meta``, torch's
    device without data, stands in for a card in tests.
    """

    device: str = "cpu"
    dtype: str = "float32"

    @property
    def is_card(self) -> bool:
        return self.device.startswith("cuda")

    @property
    def torch_dtype(self) -> torch.dtype:
        import torch

        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype

    def moved(self, array: Array) -> Tensor:
        """The same numbers in the same dtype on the device. The host does not wait for the copy to a card."""
        import torch

        tensor = array if isinstance(array, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(array))
        if self.is_card and tensor.device.type == "cpu":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

    def tensor(self, array: Array) -> Tensor:
        """On the device, in its dtype."""
        return self.moved(array).to(self.torch_dtype)

    def feature(self, tensor: Tensor) -> Array:
        """A network's output as the next room takes it: NumPy on the CPU, otherwise the tensor where it is."""
        return tensor.float().numpy() if self.device == "cpu" else tensor

    def weight(self, tensor: Tensor) -> Tensor:
        """Cast on the host, so that the card never holds it twice, and moved; the host waits for the copy."""
        return tensor.to(self.torch_dtype).to(self.device)

    def place(self, module: nn.Module) -> None:
        """Cast a module's parameters once and move it. Buffers keep their dtype: tables, such as rotary frequencies,
        that half precision cannot hold.
        """
        for parameter in module.parameters():
            parameter.data = parameter.data.to(self.torch_dtype)
        module.to(self.device)

    def stream(self, *, urgent: bool) -> AbstractContextManager[Any]:
        """A stream of its own for this thread's work on a card; urgent work goes before that of other streams."""
        if not self.is_card:
            return nullcontext()
        import torch

        own = torch.cuda.Stream(self.device, priority=-1 if urgent else 0)  # type: ignore[no-untyped-call]
        return torch.cuda.stream(own)

    def describe(self) -> str:
        """The device as a person knows it: the card's name and free memory, or CPU."""
        free = self.free_bytes()
        if free is None:
            return "CPU"
        import torch

        return f"{torch.cuda.get_device_name(self.device)}, {free / 1e9:.0f} GB free"

    def free_bytes(self) -> int | None:
        """Memory of the card that nothing uses; None if there is no card."""
        if not self.is_card:
            return None
        import torch

        cached = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return torch.cuda.mem_get_info(self.device)[0] + cached

    @contextmanager
    def memory_reported(self) -> Iterator[None]:
        """Raises MindsightError (``device.memory``) in place of torch's error if the device's memory is used up."""
        try:
            yield
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise MindsightError(
                f"expected enough free memory on {self.device}, it is used up: end other programs that use this"
                " card, leave out refinement or captions, or set MINDSIGHT_DEVICE=cpu",
                code="device.memory",
            ) from None


HOST = Placement()


def choose(device: str) -> Placement:
    """The placement that a process asks for: ``cpu``, ``cuda:N``, or ``auto`` for the first card if there is one.

    Networks run in float16 on a card: MindEye2's published figures were made in it, and it errs by an eighth of what
    bfloat16 does (``docs/mindeye.md``).
    Raises BadRequest (``settings.device``) if the card is not there.
    """
    if device == "cpu":
        return HOST
    import torch

    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return Placement("cuda:0", "float16") if cards else HOST
    number = int(device.removeprefix("cuda:"))
    if number >= cards:
        listed = f"one of {cards} cards, cuda:0 to cuda:{cards - 1}" if cards else "cpu or auto, as torch finds no card"
        reason = "" if cards else why_no_card()
        raise BadRequest(
            f"expected {listed}{reason and f' ({reason})'}, got {device}: correct MINDSIGHT_DEVICE, or install the"
            " driver and torch for CUDA",
            code="settings.device",
        )
    return Placement(device, "float16")


def why_no_card() -> str:
    """What CUDA says, such as that the driver is too old; "" if there is a card, or if this torch is made for none."""
    import torch

    if torch.version.cuda is None or torch.cuda.is_available():
        return ""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return str(error).strip().splitlines()[0]
    return "no card is visible"


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device's memory is used up; the memory that torch keeps for later is then given back."""
    import torch

    if not isinstance(error, torch.OutOfMemoryError):
        return False
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return True


def on_host(array: Array) -> NDArray[np.float32]:
    """A feature as float32 NumPy; waits for the device if it is not there yet."""
    host: NDArray[np.float32] = array if isinstance(array, np.ndarray) else array.float().cpu().numpy()
    return host

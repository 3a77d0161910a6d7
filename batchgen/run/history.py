"""What earlier attempts at a shard say of its rows: which are suspects, which is condemned, who should try next.

Arithmetic of deaths; knows neither files nor processes. The rules:

- Two deaths while a shard was on the device: from then on its rows are tried alone, the suspects first.
- A row that was alone and lived is no suspect any more and goes back to its batch. A row that died alone four times,
  and four times more for each time it lived, on two devices at least, is condemned. (Four, because machines vanish: one
  that lives five minutes on average vanishes while a row is alone for ten seconds once in thirty times.)
- Four deaths of whole batches although rows live alone: it is their company. All are rendered alone.
- Where there are several devices, the one that died here more often than all others leaves the shard to them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

DEATHS_BEFORE_ISOLATION = 2  # of a shard
DEATHS_OF_COMPANY = 4  # of a shard whose rows are not alone
DEATHS_BEFORE_FAILURE = 4  # of a row that was alone
DEVICES = 2  # that must have seen it
DEATHS_WHILE_STORING = 2


@dataclass(frozen=True, slots=True)
class Death:
    """image_id: the row that was alone. storing: after the device. blameless: it was at another shard's work.

    hung: the driver ended the process, because it gave no sign of life.
    """

    device: str = ""
    image_id: str | None = None
    storing: bool = False
    survived: tuple[str, ...] = ()
    blameless: bool = False
    hung: bool = False

    @property
    def weight(self) -> int:
        """A machine that vanishes does not hang first: that counts twice."""
        return 2 if self.hung else 1


@dataclass(frozen=True, slots=True)
class History:
    """What is known of earlier attempts at a shard: how many there were, and those that died."""

    attempts: int
    died: tuple[Death, ...] = ()
    _lived: Counter[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_lived", Counter(row for death in self.died for row in death.survived))

    @property
    def deaths(self) -> int:
        """While the shard was on the device."""
        return sum(death.weight for death in self.died if not death.storing)

    @property
    def isolate(self) -> bool:
        return self.deaths >= DEATHS_BEFORE_ISOLATION

    @property
    def kills_while_storing(self) -> bool:
        """Whether it is this shard that ends processes after the device is done with it: memory, most likely."""
        return sum(death.storing and not death.blameless for death in self.died) >= DEATHS_WHILE_STORING

    def row_deaths(self) -> Counter[str]:
        """Row → deaths while it was alone."""
        counted: Counter[str] = Counter()
        for death in self.died:
            if death.image_id is not None:
                counted[death.image_id] += death.weight
        return counted

    def fatal(self, image_id: str, only_device: bool = False) -> bool:
        """Whether the row is condemned. only_device: there is no other that could see it."""
        devices = {death.device for death in self.died if death.image_id == image_id}
        enough = self.row_deaths()[image_id] >= DEATHS_BEFORE_FAILURE * (1 + self._lived[image_id])
        return enough and (only_device or len(devices) >= DEVICES)

    def alone(self, image_ids: Sequence[str]) -> list[str]:
        """Which of these rows to try alone, in this order, before the others are rendered together."""
        if not self.isolate:
            return []
        deaths = self.row_deaths()
        in_company = sum(death.image_id is None and not death.storing for death in self.died)
        suspects = [row for row in image_ids if in_company >= DEATHS_OF_COMPANY or not self._lived[row]]
        return sorted(suspects, key=lambda row: -deaths[row])

    def is_anothers_turn(self, device: str) -> bool:
        """Whether this device died here more often than all others together."""
        mine = sum(death.device == device for death in self.died)
        return 2 * mine > len(self.died)

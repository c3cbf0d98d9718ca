"""A key-value cache for rows that come and go: it grows by blocks, and each row can be filled anew.

transformers' own copies all that it holds at each token, and its rows all begin and end together.
"""

from collections.abc import Sequence

import torch
from transformers import Cache, DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

BLOCK = 128  # tokens; a reply of 512 then copies what it holds 4 times, not 512


def roomy(held: torch.Tensor) -> torch.Tensor:
    """The keys or values (rows x heads x tokens x size) with room for a block of tokens behind them."""
    larger = held.new_empty((*held.shape[:-2], held.shape[-2] + BLOCK, held.shape[-1]))
    larger[..., : held.shape[-2], :] = held
    return larger


class Growing(DynamicLayer):
    """One layer's keys and values: the first `held` tokens of what there is room for."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.room = [roomy(key_states), roomy(value_states)]
            return self.show(key_states.shape[-2])
        held = self.get_seq_length()
        length = held + key_states.shape[-2]
        for number, new in enumerate((key_states, value_states)):
            if length > self.room[number].shape[-2]:
                self.room[number] = roomy(self.room[number])
            self.room[number][..., held:length, :] = new
        return self.show(length)

    def show(self, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of the first `length` tokens, which are from now on all that is held."""
        self.keys, self.values = (room[..., :length, :] for room in self.room)
        return self.keys, self.values

    def put(self, other: "Growing", rows: Sequence[int]) -> None:
        """Nothing, after the other's rows stand in the place of these, ending in the same column."""
        length = self.get_seq_length()
        for room, new in zip(self.room, (other.keys, other.values), strict=True):
            room[list(rows), :, length - new.shape[-2] : length] = new

    def keep(self, rows: Sequence[int], first: int) -> None:
        """Nothing, after all but these rows and all columns before the first are gone."""
        self.room = [roomy(held[list(rows), :, first:]) for held in (self.keys, self.values)]
        self.show(self.get_seq_length() - first)


def plain(config: PreTrainedConfig) -> bool:
    """Whether every layer of a model keeps plain keys and values: no window, no state."""
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=config).layers)


def cache() -> Cache:
    """An empty cache for a `plain` model."""
    return Cache(layer_class_to_replicate=Growing)

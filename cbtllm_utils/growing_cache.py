"""A key-value cache that grows by blocks: transformers' own copies all that it holds at each token."""

import torch
from transformers import Cache, DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

BLOCK = 128  # tokens; a reply of 512 then copies what it holds 4 times, not 512


class Growing(DynamicLayer):
    """One layer's keys and values (rows x heads x tokens x size), with room for the next tokens behind them."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.room = [self.keys, self.values]
        held, places = self.get_seq_length(), []
        length = held + key_states.shape[-2]
        for number, new in enumerate((key_states, value_states)):
            if held == 0 or length > self.room[number].shape[-2]:
                larger = new.new_empty((*new.shape[:-2], length + BLOCK, new.shape[-1]))
                if held:
                    larger[..., :held, :] = self.room[number][..., :held, :]
                self.room[number] = larger
            self.room[number][..., held:length, :] = new
            places.append(self.room[number][..., :length, :])
        self.keys, self.values = places
        return self.keys, self.values


def cache(config: PreTrainedConfig) -> Cache:
    """An empty cache for a model: growing by blocks, or transformers' own where a layer is no plain attention."""
    own = DynamicCache(config=config)
    plain = all(type(layer) is DynamicLayer for layer in own.layers)
    return Cache(layer_class_to_replicate=Growing) if plain else own

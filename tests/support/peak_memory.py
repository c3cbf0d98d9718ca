"""The peak memory of a computation, counted tensor by tensor: the same on every machine and in every run."""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Peak(TorchDispatchMode):
    """Count the bytes of all storages that live while it is entered; `peak` is their largest sum.

    Args:
        known: Tensors that live before: weights, gradients, moments.
    """

    def __init__(self, known):
        super().__init__()
        self.live, self.now, self.peak = {}, 0, 0
        for tensor in known:
            self.see(tensor)

    def see(self, tensor):
        storage = tensor.untyped_storage()
        if storage.nbytes() and id(storage) not in self.live:
            key = id(storage)
            self.live[key] = storage.nbytes(), weakref.ref(storage, lambda _: self.forget(key))
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)

    def forget(self, key):
        self.now -= self.live.pop(key)[0]

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self.see(leaf)
        return out

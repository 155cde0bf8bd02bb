"""Programs after well-known ones, in the names that PyTorch and pellucid share: each trains a little and gives its losses and
weights as one list of numbers.

T: the library. compiled: what is put around a step, the identity for an eager run. All weights and data come from NumPy, so
that both libraries start alike.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

Compiled = Callable[[Any], Any]


def filled(T: Any, module: Any, seed: int = 0, scale: float = 0.3) -> Any:
    """`module` with weights from NumPy."""
    random = np.random.default_rng(seed)
    with T.no_grad():
        for p in module.parameters():
            p.copy_(T.tensor(random.normal(size=tuple(p.shape)).astype(np.float32) * scale))
    return module


def data(T: Any, *shape: int, seed: int = 1) -> Any:
    return T.tensor(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def numbers(*found: Any) -> list[float]:
    """Losses and Tensors as one flat list."""
    flat: list[float] = []
    for x in found:
        flat += [float(x)] if isinstance(x, float) else [float(v) for v in x.detach().reshape(-1).tolist()]
    return flat


def weights(module: Any) -> list[float]:
    return numbers(*module.parameters())


# ---- writes that have to land ------------------------------------------------------------------------------------------


def pretrained_weights_copied(T: Any, compiled: Compiled) -> list[float]:
    """nanoGPT's `from_pretrained`: into the state_dict, some of it transposed (Conv1D against Linear)."""
    nn = T.nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ln_1, self.c_attn, self.c_proj = nn.LayerNorm(6), nn.Linear(6, 18), nn.Linear(6, 6)

        def forward(self, x: Any) -> Any:
            q, k, v = self.c_attn(self.ln_1(x)).split(6, dim=2)
            att = (q @ k.transpose(-2, -1) * (6**-0.5)).masked_fill(T.tril(T.ones(5, 5)) == 0, float("-inf"))
            return x + self.c_proj(T.nn.functional.softmax(att, dim=-1) @ v)

    model, pretrained = Block(), filled(T, Block(), 3)
    source = {
        k: (v.t() if k.endswith(("c_attn.weight", "c_proj.weight")) else v).clone()
        for k, v in pretrained.state_dict().items()
    }
    sd = model.state_dict()
    for k in source:
        with T.no_grad():
            if k.endswith(("c_attn.weight", "c_proj.weight")):
                assert sd[k].shape[::-1] == source[k].shape
                sd[k].copy_(source[k].t())
            else:
                sd[k].copy_(source[k])
    optimizer = T.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(x: Any) -> Any:
        optimizer.zero_grad()
        loss = (model(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    step = compiled(step)
    losses = [step(data(T, 2, 5, 6, seed=s)).item() for s in range(3)]
    return [*losses, *weights(model), *numbers(*sd.values())]


def dcgan(T: Any, compiled: Compiled) -> list[float]:
    """The tutorial's GAN: `weights_init` through `.data`, then a turn of each network."""
    nn = T.nn
    random = np.random.default_rng(5)

    def weights_init(m: Any) -> None:
        name = m.__class__.__name__
        if name.find("Conv") != -1:
            nn.init.normal_(m.weight.data, 0.0, 0.02)
            before = m.weight.data.std().item()
            assert 0 < before < 0.04
            m.weight.data.copy_(T.tensor(random.normal(0, 0.1, tuple(m.weight.shape)).astype(np.float32)))
        elif name.find("BatchNorm") != -1:
            nn.init.constant_(m.weight.data, 1.5)
            nn.init.constant_(m.bias.data, 0)

    netG = nn.Sequential(nn.ConvTranspose2d(4, 6, 4, 1, 0, bias=False), nn.BatchNorm2d(6), nn.ReLU(True),
                         nn.ConvTranspose2d(6, 1, 4, 2, 1, bias=False), nn.Tanh())  # fmt: skip
    netD = nn.Sequential(nn.Conv2d(1, 4, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True),
                         nn.Conv2d(4, 1, 4, 1, 0, bias=False), nn.Sigmoid())  # fmt: skip
    netG.apply(weights_init)
    netD.apply(weights_init)
    criterion = nn.BCELoss()
    optimizerD = T.optim.Adam(netD.parameters(), lr=0.002, betas=(0.5, 0.999))
    optimizerG = T.optim.Adam(netG.parameters(), lr=0.002, betas=(0.5, 0.999))

    def step(real: Any, noise: Any) -> Any:
        netD.zero_grad()
        output = netD(real).view(-1)
        label = T.full((3,), 1.0)
        errD_real = criterion(output, label)
        errD_real.backward()
        fake = netG(noise)
        label.fill_(0.0)
        errD_fake = criterion(netD(fake.detach()).view(-1), label)
        errD_fake.backward()
        optimizerD.step()
        netG.zero_grad()
        label.fill_(1.0)
        errG = criterion(netD(fake).view(-1), label)
        errG.backward()
        optimizerG.step()
        return errD_real + errD_fake, errG

    step = compiled(step)
    losses = []
    for s in range(3):
        losses += [x.item() for x in step(data(T, 3, 1, 8, 8, seed=s), data(T, 3, 4, 1, 1, seed=10 + s))]
    return [*losses, *weights(netG), *weights(netD)]


def manual_update(T: Any, compiled: Compiled) -> list[float]:
    """The 60-minute tutorial: `f.data.sub_(f.grad.data * learning_rate)`."""
    net = filled(T, T.nn.Sequential(T.nn.Linear(4, 5), T.nn.ReLU(), T.nn.Linear(5, 2)))

    def step(x: Any, target: Any) -> Any:
        net.zero_grad()
        loss = T.nn.MSELoss()(net(x), target)
        loss.backward()
        learning_rate = 0.1
        for f in net.parameters():
            f.data.sub_(f.grad.data * learning_rate)
        return loss

    step = compiled(step)
    losses = [step(data(T, 8, 4, seed=s), data(T, 8, 2, seed=9 + s)).item() for s in range(4)]
    return [*losses, *weights(net)]


def perceptron_by_hand(T: Any, compiled: Compiled) -> list[float]:
    """Two Tensors, `no_grad`, `w -= ...`, and gradients cleared in place."""
    w = T.tensor([0.5, -0.5], requires_grad=True)
    b = T.zeros(1, requires_grad=True)

    def step(x: Any, y: Any) -> Any:
        loss = ((x @ w + b - y) ** 2).mean()
        loss.backward()
        with T.no_grad():
            for p in (w, b):
                p -= 0.1 * p.grad
                p.grad.zero_()
        return loss

    step = compiled(step)
    losses = [step(data(T, 6, 2, seed=s), data(T, 6, seed=s + 5)).item() for s in range(4)]
    return [*losses, *numbers(w, b, w.grad)]


def replay_buffer(T: Any, compiled: Compiled) -> list[float]:
    """Rows written one by one into a preallocated buffer, and read as a batch."""
    buffer = T.zeros(6, 3)
    net = filled(T, T.nn.Linear(3, 1))
    optimizer = T.optim.SGD(net.parameters(), lr=0.1)

    def step(batch: Any) -> Any:
        optimizer.zero_grad()
        loss = net(batch).pow(2).mean()
        loss.backward()
        optimizer.step()
        return loss

    step = compiled(step)
    losses = []
    for s in range(9):
        buffer[s % 6].copy_(data(T, 3, seed=s))
        losses.append(step(buffer[: min(s + 1, 6)]).item())
    return [*losses, *weights(net), *numbers(buffer)]


def exponential_average(T: Any, compiled: Compiled) -> list[float]:
    """A popular EMA class: shadow, `apply_shadow` and `restore`, all by `.data`."""
    model = filled(T, T.nn.Linear(3, 2))
    shadow = {name: p.data.clone() for name, p in model.named_parameters()}
    backup: dict[str, Any] = {}
    optimizer = T.optim.SGD(model.parameters(), lr=0.2)

    def step(x: Any) -> Any:
        optimizer.zero_grad()
        loss = model(x).pow(2).mean()
        loss.backward()
        optimizer.step()
        return loss

    step = compiled(step)
    seen = []
    for s in range(4):
        seen.append(step(data(T, 5, 3, seed=s)).item())
        for name, p in model.named_parameters():
            shadow[name] = 0.1 * p.data + 0.9 * shadow[name]
        for name, p in model.named_parameters():
            backup[name] = p.data
            p.data = shadow[name]
        with T.no_grad():
            seen.append(model(data(T, 2, 3)).sum().item())
        for name, p in model.named_parameters():
            p.data = backup[name]
        backup = {}
    return [*seen, *weights(model), *numbers(*shadow.values())]


# ---- state in Python objects -------------------------------------------------------------------------------------------


def target_network(T: Any, compiled: Compiled) -> list[float]:
    """DQN: a soft update by state_dict, then a target that is replaced by a copy of the network."""

    class Agent:
        def __init__(self) -> None:
            self.q = filled(T, T.nn.Sequential(T.nn.Linear(3, 6), T.nn.ReLU(), T.nn.Linear(6, 2)))
            self.target = copy.deepcopy(self.q)
            self.optimizer = T.optim.Adam(self.q.parameters(), lr=0.05)
            self.gamma = 0.9

        def learn(self, state: Any, reward: Any, after: Any) -> Any:
            with T.no_grad():
                goal = reward + self.gamma * self.target(after).max(1).values
            loss = T.nn.functional.smooth_l1_loss(self.q(state).max(1).values, goal)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            return loss

    agent = Agent()
    learn = compiled(agent.learn)
    losses = []
    for s in range(6):
        losses.append(learn(data(T, 4, 3, seed=s), data(T, 4, seed=s + 7), data(T, 4, 3, seed=s + 20)).item())
        if s == 3:
            agent.target = copy.deepcopy(agent.q)
        else:
            ours, theirs = agent.target.state_dict(), agent.q.state_dict()
            for key in theirs:
                ours[key] = theirs[key] * 0.1 + ours[key] * 0.9
            agent.target.load_state_dict(ours)
        if s == 4:
            agent.gamma = 0.5
    return [*losses, *weights(agent.q), *weights(agent.target)]


def annealed_loss(T: Any, compiled: Compiled) -> list[float]:
    """A variational autoencoder whose KL weight rises from epoch to epoch on a plain object."""

    class Settings:
        beta = 0.0

    settings = Settings()
    net = filled(T, T.nn.Linear(4, 4))
    optimizer = T.optim.SGD(net.parameters(), lr=0.1)

    def step(x: Any) -> Any:
        mu, logvar = net(x).chunk(2, dim=1)
        kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1).mean()
        loss = (mu - x[:, :2]).pow(2).mean() + settings.beta * kl
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    step = compiled(step)
    losses = []
    for epoch in range(4):
        settings.beta = epoch / 3
        losses += [step(data(T, 6, 4, seed=s)).item() for s in range(2)]
    return [*losses, *weights(net)]


def cached_mask(T: Any, compiled: Compiled) -> list[float]:
    """A causal mask that `forward` makes when it meets another length, and keeps."""
    nn = T.nn

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Linear(4, 12)
            self.mask: Any = None

        def forward(self, x: Any) -> Any:
            length = x.shape[1]
            if self.mask is None or self.mask.shape[0] != length:
                self.mask = T.triu(T.full((length, length), float("-inf")), diagonal=1)
            q, k, v = self.qkv(x).chunk(3, dim=-1)
            return T.softmax(q @ k.transpose(1, 2) / 2 + self.mask, dim=-1) @ v

    net = filled(T, Attention())
    optimizer = T.optim.SGD(net.parameters(), lr=0.1)

    def step(x: Any) -> Any:
        optimizer.zero_grad()
        loss = net(x).pow(2).mean()
        loss.backward()
        optimizer.step()
        return loss

    step = compiled(step)
    losses = [step(data(T, 2, length, 4, seed=length)).item() for length in (3, 3, 5, 5, 3)]
    return [*losses, *weights(net)]


PROGRAMS: list[Callable[[Any, Compiled], list[float]]] = [
    pretrained_weights_copied, dcgan, manual_update, perceptron_by_hand, replay_buffer, exponential_average,
    target_network, annealed_loss, cached_mask,
]  # fmt: skip

"""The controller: encoder, predictor and attention decoder over architecture sequences (Method 5), and its latent
steps (Method 7).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import UserError


class Encoder(nn.Module):
    """LSTM over (input, operation) pairs, L2-normalised outputs E; embedding e = their normalised mean; predictor."""

    def __init__(self, vocab: int, embedding: int, hidden: int, layers: int, mlp_hidden: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab, embedding)
        self.rnn = nn.LSTM(2 * embedding, hidden, batch_first=True)
        self.mlp = nn.Sequential()
        width = hidden
        for index in range(layers):
            part = nn.Sequential(nn.Linear(width, mlp_hidden), nn.ReLU(), nn.Dropout(dropout))
            self.mlp.add_module(f"layer_{index}", part)
            width = mlp_hidden
        self.regressor = nn.Linear(width, 1)

    def outputs(self, tokens: Tensor) -> Tensor:
        """E [N, length / 2, hidden] of token sequences [N, length]."""
        pairs = self.embedding(tokens).flatten(2).view(tokens.shape[0], tokens.shape[1] // 2, -1)
        return F.normalize(self.rnn(pairs)[0], dim=-1)

    def embed(self, outputs: Tensor) -> Tensor:
        """e [N, hidden]."""
        return F.normalize(outputs.mean(1), dim=-1)

    def predict(self, outputs: Tensor) -> Tensor:
        """Predicted target in (0, 1), [N, 1]."""
        return torch.sigmoid(self.regressor(self.mlp(self.embed(outputs))))


class Attention(nn.Module):
    """tanh(W2 [mix ; o]), mix = softmax(W1 o E^T) E; no scaling, no bias."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.input_proj = nn.Linear(hidden, hidden, bias=False)
        self.output_proj = nn.Linear(2 * hidden, hidden, bias=False)

    def forward(self, o: Tensor, outputs: Tensor) -> Tensor:
        """o [N, T, hidden], outputs E [N, S, hidden] -> [N, T, hidden]."""
        weights = torch.softmax(self.input_proj(o) @ outputs.transpose(1, 2), dim=-1)
        return torch.tanh(self.output_proj(torch.cat([weights @ outputs, o], -1)))


class Decoder(nn.Module):
    """LSTM from h = c = e, attention over E, log-probabilities over the whole vocabulary."""

    def __init__(self, vocab: int, hidden: int) -> None:
        super().__init__()
        self.rnn = nn.LSTM(hidden, hidden, batch_first=True)
        self.embedding = nn.Embedding(vocab, hidden)
        self.attention = Attention(hidden)
        self.out = nn.Linear(hidden, vocab)

    def teacher(self, tokens: Tensor, e: Tensor, outputs: Tensor) -> Tensor:
        """Log-probabilities [N, length, vocab] of each token given the true ones before it: one call per module.

        Feeding the sequence token by token gives the same numbers, since no choice depends on an output.
        """
        fed = torch.cat([torch.zeros_like(tokens[:, :1]), tokens[:, :-1]], 1)
        o, _ = self.rnn(self.embedding(fed), (e[None].contiguous(), e[None].contiguous()))
        return F.log_softmax(self.out(self.attention(o, outputs)), dim=-1)

    def free(self, e: Tensor, outputs: Tensor, nodes: int) -> tuple[Tensor, Tensor]:
        """Greedy decoding: (tokens [N, length], log-probabilities [N, length, vocab]); only valid architectures.

        Position s belongs to node (s mod 4 B) div 4. Even s: argmax over tokens 1 .. node + 2; odd s: over operations.
        """
        rnn, length = self.rnn, 8 * nodes
        from_input, from_state, *biases = rnn.all_weights[0]
        gates_of = self.embedding.weight @ from_input.T + biases[0] + biases[1]  # one row per token
        keys = outputs @ self.attention.input_proj.weight  # (W1 o) E^T = o (E W1)^T: projected once
        h = c = e
        token = torch.zeros(e.shape[0], dtype=torch.long, device=e.device)
        tokens, log_probabilities = [], []
        for position in range(length):
            i, f, g, o = (gates_of[token] + h @ from_state.T).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            weights = torch.softmax((keys @ h[:, :, None]).squeeze(2), -1)
            mix = (weights[:, None] @ outputs).squeeze(1)
            scores = self.out(torch.tanh(self.attention.output_proj(torch.cat([mix, h], -1))))
            log_probabilities.append(F.log_softmax(scores, -1))
            token = constrained_argmax(log_probabilities[-1], position, nodes)
            tokens.append(token)
        return torch.stack(tokens, 1), torch.stack(log_probabilities, 1)


def constrained_argmax(scores: Tensor, position: int, nodes: int) -> Tensor:
    """The best allowed token at a position, [N] from scores [N, vocab]."""
    if position % 2 == 0:
        node = position % (4 * nodes) // 4
        return scores[:, 1 : node + 3].argmax(1) + 1
    return scores[:, nodes + 2 :].argmax(1) + nodes + 2


class Controller(nn.Module):
    """Encoder, predictor and decoder in one; 80,845 parameters with the search's defaults."""

    def __init__(
        self, vocab: int = 12, embedding: int = 32, hidden: int = 64, mlp_layers: int = 0, mlp_hidden: int = 200,
        dropout: float = 0.1, nodes: int = 5,
    ) -> None:  # fmt: skip
        super().__init__()
        if 2 * embedding != hidden:
            raise UserError(f"controller: hidden size {hidden} must be twice the embedding size {embedding}")
        self.nodes = nodes
        self.encoder = Encoder(vocab, embedding, hidden, mlp_layers, mlp_hidden, dropout)
        self.decoder = Decoder(vocab, hidden)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.encoder.embedding.weight.device

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(predictions [N, 1], log-probabilities [N, length, vocab]) with teacher forcing."""
        outputs = self.encoder.outputs(tokens)
        return self.encoder.predict(outputs), self.decoder.teacher(tokens, self.encoder.embed(outputs), outputs)

    def losses(self, tokens: Tensor, target: Tensor, trade_off: float = 0.8) -> tuple[Tensor, Tensor, Tensor]:
        """(loss, mse, nll): loss = 0.8 MSE(predictor, target) + 0.2 NLL(tokens), the NLL averaged over all tokens."""
        predicted, log_probabilities = self(tokens)
        mse = F.mse_loss(predicted, target.view_as(predicted))
        nll = F.nll_loss(log_probabilities.flatten(0, 1), tokens.flatten())
        return trade_off * mse + (1 - trade_off) * nll, mse, nll

    def gradient(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(E, g = d predictor / d E); the gradient does not pass through the LSTM."""
        with torch.no_grad():
            outputs = self.encoder.outputs(tokens)
        with torch.enable_grad():
            outputs = outputs.requires_grad_()
            (gradient,) = torch.autograd.grad(self.encoder.predict(outputs).sum(), outputs)
        return outputs.detach(), gradient

    @torch.no_grad()
    def improved(self, outputs: Tensor, gradient: Tensor, step: float) -> tuple[Tensor, Tensor, Tensor]:
        """E' = normalise(E + step g), e' = normalise(mean E'), and the tokens decoded from them: (tokens, E', e')."""
        moved = F.normalize(outputs + step * gradient, dim=-1)
        e = self.encoder.embed(moved)
        return self.decoder.free(e, moved, self.nodes)[0], moved, e

    def infer(self, tokens: Tensor, step: float) -> Tensor:
        """Sequences decoded after one latent step of size ``step`` uphill from each of ``tokens`` [N, length]."""
        return self.improved(*self.gradient(tokens), step)[0]

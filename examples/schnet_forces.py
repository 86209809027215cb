"""SchNet (PyTorch Geometric) on a copper crystal: its energies repeat, and its forces do not.

    detprobe scan examples/schnet_forces.py:make

Forces are the negative gradient of the energy by the atoms' positions. Every edge of the graph reads two rows of `pos`,
so the backward adds each edge's gradient to the rows of its two atoms, and threads do that in the order in which they
arrive. Weights are random: what is shown does not depend on training.
"""

import torch
from torch_geometric.nn import SchNet

CUTOFF = 6.0  # Angstrom
LATTICE = 3.61  # Angstrom, copper
CELLS = 5  # per side: 4 * 5**3 = 500 atoms


class PairGraph(torch.nn.Module):
    """Edges between all atoms of a molecule that are nearer than the cutoff, and their lengths."""

    def forward(self, pos: torch.Tensor, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            near = torch.cdist(pos, pos) < CUTOFF
            near &= batch[:, None] == batch[None, :]
            near.fill_diagonal_(False)
            row, col = near.nonzero(as_tuple=True)
        edge = pos[row] - pos[col]
        return torch.stack([row, col]), edge.norm(dim=-1)


def copper(cells: int) -> torch.Tensor:
    """Positions [4 * cells**3, 3], Angstrom, of a face-centred cubic crystal with thermal noise."""
    corners = torch.cartesian_prod(*[torch.arange(cells, dtype=torch.float32)] * 3)
    basis = torch.tensor([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    pos = (corners[:, None] + basis).reshape(-1, 3) * LATTICE
    return pos + 0.1 * torch.randn(pos.shape, generator=torch.Generator().manual_seed(0))


def make():
    """Model, inputs and loss: the gradient of the summed energies by the positions is minus the forces."""
    torch.manual_seed(0)
    model = SchNet(hidden_channels=64, num_filters=64, num_interactions=3, cutoff=CUTOFF, interaction_graph=PairGraph())
    pos = copper(CELLS).requires_grad_()
    z = torch.full((len(pos),), 29)
    batch = torch.zeros(len(pos), dtype=torch.long)
    return model, (z, pos, batch), torch.sum

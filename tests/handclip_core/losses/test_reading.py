import torch

from handclip_core.losses.reading import ReadFrom, reader
from handclip_core.types import Encoded, Output


def test_each_source_gives_its_own_vector_in_float32() -> None:
    trunk, projected, embedding = (torch.full((2, width), width, dtype=torch.bfloat16) for width in (3, 4, 5))
    output = Output(Encoded(features=trunk, projected=projected), embedding=embedding, logits=torch.zeros(2, 1))
    shapes = {source: reader(source)(output).shape[1] for source in ReadFrom}
    assert shapes == {ReadFrom.TRUNK: 3, ReadFrom.PROJECTED: 4, ReadFrom.EMBEDDING: 5}
    assert all(reader(source)(output).dtype == torch.float32 for source in ReadFrom)


def test_vectors_can_be_scaled_to_length_one() -> None:
    vectors = torch.tensor([[3.0, 4.0], [0.5, 0.0]], dtype=torch.bfloat16)
    output = Output(Encoded(vectors, vectors), embedding=vectors, logits=torch.zeros(2, 1))
    found = reader(ReadFrom.EMBEDDING, unit_length=True)(output)
    torch.testing.assert_close(found, torch.tensor([[0.6, 0.8], [1.0, 0.0]]))

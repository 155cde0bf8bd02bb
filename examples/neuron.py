"""One neuron, number by number: its output, and how backpropagation finds the gradient of each weight.

Every number below is read from the tape that the forward pass left behind: each Node knows its operation, what it read,
and (asked with dL/dy = 1) the local slope of its output. The chain rule multiplies those slopes.
"""

import pellucid as torch

inputs = torch.tensor([0.8, 0.3, 0.6])
weights = torch.tensor([0.7, 0.2, 0.5], requires_grad=True)

products = inputs * weights
total = products.sum()
output = total.sigmoid()


def slopes(tensor):
    """The local slope of the Node that made `tensor`, for the one of its inputs that leads to the weights."""
    node = tensor.node
    return next(g for g in node.op.backward(node, torch.ones_like(tensor)) if g is not None)


print("forward")
x, w = products.node.inputs  # what the multiplication read
pairs = [f"{a:.1f}x{b:.1f}" for a, b in zip(x.tolist(), w.tolist(), strict=True)]
print(f"  {products.node.op.name:<9}{' , '.join(pairs)} = {', '.join(f'{p:.2f}' for p in products.tolist())}")
print(f"  {total.node.op.name:<9}{' + '.join(pairs)} = {total.item():.2f}")
print(f"  {output.node.op.name:<9}1 / (1 + exp(-{total.item():.2f})) = {output.item():.4f}")

print("backward: the slope of the output along each weight is a product of local slopes")
d_sigmoid = slopes(output).item()
d_sum = slopes(total).tolist()
d_multiply = slopes(products).tolist()
for i, (s, m) in enumerate(zip(d_sum, d_multiply, strict=True)):
    print(f"  weight {i}: {d_sigmoid:.4f} (sigmoid) x {s:.0f} (sum) x {m:.1f} (multiply) = {d_sigmoid * s * m:.4f}")

output.backward()
print(f"and backward() says  {', '.join(f'{g:.4f}' for g in weights.grad.tolist())}")

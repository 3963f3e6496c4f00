"""One training step on a model of PyTorch's memory: autograd without data.

autograd        storages, tensors, nodes, and a meter of live bytes
ops, linear, attention, loss    what each operation allocates, saves and gives back
adapter         LoRA's modules and parameters
decoder_layer   one decoder layer of any family
symbolic_size   sizes as polynomials of tokens, row length and rank
layer_cost      one simulated layer: its peaks, what it keeps, what it gives back
step            the candidates for the peak of a whole step
"""

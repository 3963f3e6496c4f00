"""Make the starter model and the sample datasets from nothing but a seed.

facts.py      tables of common knowledge
world.py      facts with many phrasings, courtesies, things nobody knows
formats.py    ways to dress an answer, and how a system prompt asks for them
corpus.py     conversations for pre-training
tokenizer.py  the byte-level BPE and the ChatML template
pretrain.py   the training loop of the base
styles.py     the three demo styles with their tests, and the test of a fact
samples.py    the three sample datasets and their held-out prompts
tuning.py     a plain QLoRA loop that finds and proves the recipe of preset `cpu-starter`
"""

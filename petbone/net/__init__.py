"""The neural network: its anatomies, synthetic CT, training and use. The only part that imports torch."""

"""The process that may die with the GPU: capture, translate, report."""

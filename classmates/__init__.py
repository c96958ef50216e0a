"""More accurate image classifiers without a bigger teacher: self-distillation and online distillation."""

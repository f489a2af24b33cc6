"""From pictures to the tensors of downstream tasks."""

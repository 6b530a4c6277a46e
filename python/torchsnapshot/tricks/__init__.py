"""torchsnapshot's adapters; re-exports."""

"""The protocols that capabilities and use cases need; adapters, the store and the sandbox implement them."""

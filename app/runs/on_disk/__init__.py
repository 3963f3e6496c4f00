"""What lies on this disk: adapters and models to try, exports made of them."""

"""Check and parse single strings; format routes and rules as iproute2 does."""

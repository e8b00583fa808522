"""The one call path: deadline -> bulkhead -> breaker -> retry -> attempt -> faults -> transport.

Every request to another service or to the outside goes this way. Each step is a small piece that wraps the next, has
its part of a destination's policy, and knows nothing of the others.
"""

"""Why the layer itself deserves trust. So far: the audit log's chain and its signed heads. No I/O."""

"""Costs by arithmetic: parameters, KV cache, attention, the op table, predicted time. No torch."""

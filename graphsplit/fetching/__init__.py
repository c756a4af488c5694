"""Published models by name or address: downloaded, checked, unpacked.

name ─ zoo ─▶ address ─ download ─▶ file ─ unpacking ─▶ folder ─ models ─▶ what can be loaded
"""

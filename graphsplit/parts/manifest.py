from graphsplit.parts.folder import MANIFEST, added_json, file_names, find_manifest, load_parts, section_json

__all__ = ["MANIFEST", "added_json", "file_names", "find_manifest", "load_parts", "section_json"]

"""Files and objects of a scanner → volumes: one file per format, with what several formats share.

Knows nothing of how the bytes arrive, live or from a disk. Identity stops at ``dicom_header.py`` and ``par_header.py``.
"""

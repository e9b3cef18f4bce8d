"""The binary headers of MRD's messages 1022 and 1026, as ismrmrd.h and waveform.h lay them out.

They equal those of the package ismrmrd, whose HDF5 libraries a console does not need.
"""

from __future__ import annotations

import ctypes
from ctypes import c_float, c_int32, c_uint16, c_uint32, c_uint64


class ImageHeader(ctypes.LittleEndianStructure):
    """ISMRMRD_ImageHeader."""

    _pack_ = 2
    _layout_ = "ms"  # Python 3.14 requires it for packed structures
    _fields_ = (
        ("version", c_uint16),
        ("data_type", c_uint16),
        ("flags", c_uint64),
        ("measurement_uid", c_uint32),
        ("matrix_size", c_uint16 * 3),
        ("field_of_view", c_float * 3),
        ("channels", c_uint16),
        ("position", c_float * 3),
        ("read_dir", c_float * 3),
        ("phase_dir", c_float * 3),
        ("slice_dir", c_float * 3),
        ("patient_table_position", c_float * 3),
        ("average", c_uint16),
        ("slice", c_uint16),
        ("contrast", c_uint16),
        ("phase", c_uint16),
        ("repetition", c_uint16),
        ("set", c_uint16),
        ("acquisition_time_stamp", c_uint32),
        ("physiology_time_stamp", c_uint32 * 3),
        ("image_type", c_uint16),
        ("image_index", c_uint16),
        ("image_series_index", c_uint16),
        ("user_int", c_int32 * 8),
        ("user_float", c_float * 8),
        ("attribute_string_len", c_uint32),
    )


class WaveformHeader(ctypes.LittleEndianStructure):
    """ISMRMRD_WaveformHeader."""

    _pack_ = 8
    _layout_ = "ms"
    _fields_ = (
        ("version", c_uint16),
        ("flags", c_uint64),
        ("measurement_uid", c_uint32),
        ("scan_counter", c_uint32),
        ("time_stamp", c_uint32),
        ("number_of_samples", c_uint16),
        ("channels", c_uint16),
        ("sample_time_us", c_float),
        ("waveform_id", c_uint16),
    )


HEADER_BYTES, WAVEFORM_HEADER_BYTES = ctypes.sizeof(ImageHeader), ctypes.sizeof(WaveformHeader)

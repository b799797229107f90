"""Rate, distortion and speed, beside other codecs. Imports no encoder: it is given what encodes."""

"""The numeric kernels under the losses."""

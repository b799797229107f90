"""The trained model packs that ship with lrcodec; data only."""

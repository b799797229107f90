"""Many images at once, in the engines that others run: Ray Data, Spark, webdataset, torch.utils.data.

`items` has what all of them share: a list of images in, a list of files and errors out, or the other way round. Each
other module fits that to one engine, and imports the engine only when it is used. docs/pipelines.md shows all of them.
"""

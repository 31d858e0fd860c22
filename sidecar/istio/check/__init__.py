"""`meshkey istio check`: what is wrong with a set of files, by rules over the objects in them."""

/tmp/tmp.h3OWjkfe73

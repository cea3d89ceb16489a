"""Libraries installed by Debian packages, as external repositories.

The headers lie in /usr/include, which the compiler searches by itself (as system headers, so without
our warning flags): a BUILD file only has to name what to link.
"""

def debian_library(name):
    native.new_local_repository(
        name = name,
        build_file = "//third_party:%s.BUILD" % name,
        path = "/usr",
    )

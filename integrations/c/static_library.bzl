"""A static library of a target and of all that the target needs from this workspace."""

def _static_library_impl(ctx):
    objects, flags = [], []
    for linker_input in ctx.attr.dep[CcInfo].linking_context.linker_inputs.to_list():
        flags += linker_input.user_link_flags
        for library in linker_input.libraries:
            objects += library.pic_objects or library.objects or []
    arguments = ctx.actions.args()
    arguments.add(ctx.outputs.library)
    arguments.add_all(objects)

    # "q": objects of different folders may have the same name.
    ctx.actions.run_shell(
        command = "rm -f \"$1\" && ar qcsD \"$@\"",
        arguments = [arguments],
        inputs = objects,
        outputs = [ctx.outputs.library],
        mnemonic = "StaticLibrary",
    )
    ctx.actions.write(ctx.outputs.flags, " ".join(flags) + "\n")

static_library = rule(
    doc = "Makes the archive `library`, and `flags` with what a program needs to link with it.",
    implementation = _static_library_impl,
    attrs = {
        "dep": attr.label(mandatory = True, providers = [CcInfo]),
        "library": attr.output(mandatory = True),
        "flags": attr.output(mandatory = True),
    },
)

// Size widgets that the chosen size_mode does not use are greyed, and say what is used in their place.
import { app } from "../../scripts/app.js";

const TRAINED = "as trained";
const AROUND = "around the mask"; // takes the size of the training, where it is known
const SIZES = ["megapixels", "width", "height"];
// Node -> mode -> the size widgets that it uses.
const USED = {
    ByG_ImageEdit: {
        megapixels: ["megapixels"], "exact size": ["width", "height"], [AROUND]: ["megapixels"],
    },
    ByG_VideoEdit: {
        "same area": ["width", "height"], "exact size": ["width", "height"], [AROUND]: ["width", "height"],
    },
};

function update(node, worked) {
    const find = (name) => node.widgets?.find((widget) => widget.name === name);
    const mode = find("size_mode")?.value;
    const informed = node.inputs?.find((input) => input.name === "info")?.link != null;
    const used = mode === AROUND && informed ? [] : USED[node.comfyClass][mode] ?? [];
    for (const name of SIZES) {
        const widget = find(name);
        if (!widget) continue;
        widget.byg_label ??= widget.label ?? widget.name;
        widget.disabled = !used.includes(name);
        const instead = worked ? `${worked[name]}, ${mode}` : mode;
        widget.label = widget.disabled ? `${widget.byg_label}: ${instead}` : widget.byg_label;
    }
    app.canvas?.setDirty(true, true);
}

function after(object, method, then) {
    const before = object[method];
    object[method] = function () {
        const result = before?.apply(this, arguments);
        then.apply(this, arguments);
        return result;
    };
}

app.registerExtension({
    name: "ByG.Sizes",
    nodeCreated(node) {
        if (!(node.comfyClass in USED)) return;
        const mode = node.widgets.find((widget) => widget.name === "size_mode");
        after(mode, "callback", () => update(node));
        after(node, "onConfigure", () => update(node));
        after(node, "onConnectionsChange", () => update(node));
        after(node, "onExecuted", (output) => {
            if (!output?.works_at) return;
            const [width, height] = output.works_at;
            update(node, { width, height, megapixels: Number(((width * height) / 2 ** 20).toPrecision(2)) });
        });
        update(node);
    },
});

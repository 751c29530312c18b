// The slider of ByG Compare: the source on the left of its edge, the edit on the right.
// A file holds both halves beside each other, so that the two sides of a clip cannot part.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const LOWEST = 200; // pixels
const STEP = 0.02; // of the arrow keys
const LABEL = "position:absolute;top:4px;padding:1px 6px;border-radius:4px;pointer-events:none;"
    + "font:12px sans-serif;color:#fff;background:#0009;";

function part(tag, style, parent) {
    const element = document.createElement(tag);
    element.style.cssText = style;
    parent?.append(element);
    return element;
}

class Slider {
    constructor() {
        this.element = part("div", `container-type:size;display:flex;align-items:center;width:100%;`
            + `height:100%;min-height:${LOWEST}px;justify-content:center`);
        this.frame = part("div", "position:relative;touch-action:none;cursor:ew-resize;outline-offset:2px;"
            + "display:none", this.element);
        this.canvas = part("canvas", "display:block;width:100%;height:100%;border-radius:4px", this.frame);
        this.edge = part("div", "position:absolute;top:0;bottom:0;width:2px;margin-left:-1px;"
            + "background:#fff;box-shadow:0 0 3px #000;pointer-events:none", this.frame);
        this.labels = ["left:4px", "right:4px"].map((side) => part("span", LABEL + side, this.frame));
        Object.assign(this.frame, { tabIndex: 0, role: "slider", className: "byg-slider" });
        this.frame.addEventListener("pointermove", (event) => this.follow(event));
        this.frame.addEventListener("click", () => this.next());
        this.frame.addEventListener("keydown", (event) => this.press(event));
        this.entries = [];
        this.at = 0.5;
    }

    show(entries, labels) {
        this.stop();
        this.entries = entries;
        this.index = 0;
        labels.forEach((text, i) => { this.labels[i].textContent = text; });
        this.open();
    }

    open() {
        const { clip, ...file } = this.entries[this.index];
        this.media = clip ? document.createElement("video") : new Image();
        if (clip) Object.assign(this.media, { muted: true, loop: true, playsInline: true });
        this.media.addEventListener(clip ? "loadeddata" : "load", () => this.ready(clip));
        this.media.src = api.apiURL(`/view?${new URLSearchParams(file)}`);
    }

    ready(clip) {
        const width = (this.media.videoWidth ?? this.media.naturalWidth) / 2;
        const height = this.media.videoHeight ?? this.media.naturalHeight;
        Object.assign(this.canvas, { width, height });
        this.canvas.style.imageRendering = width < LOWEST ? "pixelated" : "auto";
        this.frame.style.display = "block";
        this.frame.style.width = `min(100cqw, ${width / height} * 100cqh)`;
        this.frame.style.aspectRatio = `${width} / ${height}`;
        this.draw();
        if (clip) this.play(this.media);
    }

    // A video that is not on the page itself does not start by itself, nor tell of its frames.
    play(video) {
        video.play();
        const again = () => {
            if (video !== this.media) return;
            if (!video.paused) this.draw();
            requestAnimationFrame(again);
        };
        again();
    }

    draw() {
        const { width, height } = this.canvas;
        const paint = this.canvas.getContext("2d");
        const edge = Math.round(width * this.at);
        paint.drawImage(this.media, width, 0, width, height, 0, 0, width, height);
        if (edge) paint.drawImage(this.media, 0, 0, edge, height, 0, 0, edge, height);
        this.edge.style.left = `${100 * this.at}%`;
        this.frame.setAttribute("aria-valuenow", Math.round(100 * this.at));
    }

    move(at) {
        this.at = Math.min(1, Math.max(0, at));
        if (this.media) this.draw();
    }

    follow(event) {
        const { left, width } = this.frame.getBoundingClientRect();
        this.move((event.clientX - left) / width);
    }

    press(event) {
        const way = { ArrowLeft: -STEP, ArrowRight: STEP }[event.key];
        if (way) this.move(this.at + way);
        if (way || event.key === " ") event.stopPropagation();
        if (event.key === " ") this.next();
    }

    // A clip stops and goes on; of several pictures comes the next one.
    next() {
        if (this.media instanceof HTMLVideoElement) {
            if (this.media.paused) this.media.play();
            else this.media.pause();
        } else if (this.entries.length > 1) {
            this.index = (this.index + 1) % this.entries.length;
            this.open();
        }
    }

    stop() {
        this.media?.pause?.();
        this.media = undefined;
    }
}

app.registerExtension({
    name: "ByG.Compare",
    nodeCreated(node) {
        if (node.comfyClass !== "ByG_Compare") return;
        const slider = new Slider();
        const options = { serialize: false, hideOnZoom: false, getMinHeight: () => LOWEST };
        const widget = node.addDOMWidget("before_after", "byg_slider", slider.element, options);
        widget.serialize = false;
        widget.onRemove = ((before) => function () {
            before?.call(this);
            slider.stop();
        })(widget.onRemove);
        const executed = node.onExecuted;
        node.onExecuted = function (output) {
            executed?.apply(this, arguments);
            if (output?.before_after?.length) slider.show(output.before_after, output.labels);
        };
    },
});

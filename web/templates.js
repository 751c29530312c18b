// The server lists a pack's workflows in the order of its file system. By their names those that need
// no download come first.
import { api } from "../../scripts/api.js";

const pack = decodeURIComponent(new URL(import.meta.url).pathname.split("/").at(-2));
const list = api.getWorkflowTemplates;
api.getWorkflowTemplates = async function () {
    const found = await list.apply(this, arguments);
    found[pack]?.sort();
    return found;
};

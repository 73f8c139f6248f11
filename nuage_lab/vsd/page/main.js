// Builds the parts of the page by hand and joins them: log in, follow the events, show failures.

import { Api } from "./api.js";
import { clock, setText } from "./dom.js";
import { EventFeed, RequestFeed } from "./feeds.js";
import { News } from "./news.js";
import { Search } from "./search.js";
import { Tree } from "./tree.js";

const QUIET_MS = 10000; // between two announcements of added and removed vPorts

const at = (id) => document.getElementById(id);
const [form, desk, notice] = [at("login"), at("desk"), at("notice")];
const api = new Api();
const tree = new Tree(at("tree"), api, attempt);
const search = new Search(api, tree, attempt);
const [events, requests] = [new EventFeed(at("events")), new RequestFeed(at("requests"))];
const announced = { came: 0, went: 0, timer: null };
let heard = 0;

const news = new News(api, {
  events(list) {
    live();
    events.take(list);
    announce(tree.follow(list));
  },
  requests: (answer) => requests.take(answer),
  anew: () => attempt(() => tree.load()),
  lost(failure) {
    state("lost", "Lost");
    warn(`${failure.message} This page shows the state of ${clock(heard)}. Trying again …`);
  },
  back() {
    live();
    attempt(() => tree.load());
  },
  refused,
});

function refused() {
  leave("Your API key is no longer valid. Log in again.");
}

function live() {
  heard = Date.now();
  state("live", "Live");
  warn("");
}

function state(name, text) {
  at("connection").dataset.state = name;
  setText(at("connection"), text);
}

function warn(text) {
  notice.hidden = !text;
  setText(notice, text);
}

/** Runs an action and shows its failure. */
async function attempt(work) {
  try {
    await work();
  } catch (failure) {
    if (failure.name === "AbortError") return; // the user has logged out
    if (failure.status === undefined) throw failure;
    if (failure.status === 401) refused();
    else warn(failure.message);
  }
}

/** Announces the sum of added and removed vPorts to screen readers, once in a while. */
function announce({ came, went }) {
  announced.came += came;
  announced.went += went;
  if (announced.timer !== null || !(announced.came || announced.went)) return;
  const parts = [announced.came && `${announced.came} added`, announced.went && `${announced.went} removed`].filter(Boolean);
  setText(at("announcement"), `vPorts: ${parts.join(", ")}`);
  [announced.came, announced.went] = [0, 0];
  announced.timer = setTimeout(() => {
    announced.timer = null;
    announce({ came: 0, went: 0 });
  }, QUIET_MS);
}

async function enter() {
  const { user, role, enterprise } = api.session;
  form.hidden = true;
  desk.hidden = at("who").hidden = false;
  setText(at("caller"), `${user} of ${enterprise}`);
  requests.allow(role === "CSPROOT");
  events.take([]);
  news.start(role === "CSPROOT"); // before the lists, so that nothing is missed between them and the events
  live();
  await attempt(() => tree.load());
}

/** Shows the log-in form with the names used last. */
function leave(why) {
  const { user = "", organization = "" } = api.session ?? {};
  news.stop();
  api.logout();
  for (const part of [tree, search, events, requests]) part.clear();
  clearTimeout(announced.timer);
  Object.assign(announced, { came: 0, went: 0, timer: null });
  desk.hidden = at("who").hidden = true;
  form.hidden = false;
  Object.assign(form.elements.user, { value: user });
  Object.assign(form.elements.organization, { value: organization });
  state("out", "Not logged in");
  warn("");
  setText(at("refusal"), why);
  form.elements[user ? "password" : "user"].focus();
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { user, password, organization } = form.elements;
  const submit = form.querySelector("button");
  setText(at("refusal"), "");
  submit.disabled = true;
  try {
    await api.login(user.value, password.value, organization.value);
    password.value = "";
    await enter();
    document.querySelector("#tree .twig")?.focus();
  } catch (failure) {
    setText(at("refusal"), failure.status === 401 ? "Wrong user, password or organisation." : failure.message);
  } finally {
    submit.disabled = false;
  }
});
at("logout").addEventListener("click", () => leave(""));

if (api.session) enter();
else leave("");

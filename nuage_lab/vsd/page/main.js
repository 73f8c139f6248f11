// Builds the page's parts by hand and joins them: log in, follow the news, say what is wrong.

import { Api } from "./api.js";
import { clock, say } from "./dom.js";
import { EventFeed, RequestFeed } from "./feeds.js";
import { News } from "./news.js";
import { Search } from "./search.js";
import { Tree } from "./tree.js";

const QUIET_MS = 10000; // between two announcements of what came and went

const at = (id) => document.getElementById(id);
const [form, desk, notice] = [at("login"), at("desk"), at("notice")];
const api = new Api();
const tree = new Tree(at("tree"), api, attempt);
const search = new Search(api, tree, attempt);
const [events, requests] = [new EventFeed(at("events")), new RequestFeed(at("requests"))];
const told = { came: 0, went: 0, timer: null };
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
    warn(`${failure.message} What you see is of ${clock(heard)}. Trying again …`);
  },
  back() {
    live();
    attempt(() => tree.load());
  },
  refused,
});

function refused() {
  leave("Your key is not valid any more. Log in again.");
}

function live() {
  heard = Date.now();
  state("live", "Live");
  warn("");
}

function state(name, text) {
  at("connection").dataset.state = name;
  say(at("connection"), text);
}

function warn(text) {
  notice.hidden = !text;
  say(notice, text);
}

/** Runs what somebody or something asked for; a failure is told. */
async function attempt(work) {
  try {
    await work();
  } catch (failure) {
    if (failure.name === "AbortError") return; // somebody has logged out
    if (failure.status === undefined) throw failure;
    if (failure.status === 401) refused();
    else warn(failure.message);
  }
}

/** Tells a screen reader what came and went: a sum, now and then. */
function announce({ came, went }) {
  told.came += came;
  told.went += went;
  if (told.timer !== null || !(told.came || told.went)) return;
  const parts = [told.came && `${told.came} came`, told.went && `${told.went} went`].filter(Boolean);
  say(at("announcement"), `vPorts: ${parts.join(", ")}`);
  [told.came, told.went] = [0, 0];
  told.timer = setTimeout(() => {
    told.timer = null;
    announce({ came: 0, went: 0 });
  }, QUIET_MS);
}

async function enter() {
  const { user, role, enterprise } = api.session;
  form.hidden = true;
  desk.hidden = at("who").hidden = false;
  say(at("caller"), `${user} of ${enterprise}`);
  requests.allow(role === "CSPROOT");
  events.take([]);
  news.start(role === "CSPROOT"); // before the lists, so that nothing is missed between them and the events
  live();
  await attempt(() => tree.load());
}

/** Shows the log-in form, with the names that were used last. */
function leave(why) {
  const { user = "", organization = "" } = api.session ?? {};
  news.stop();
  api.logout();
  for (const part of [tree, search, events, requests]) part.clear();
  clearTimeout(told.timer);
  Object.assign(told, { came: 0, went: 0, timer: null });
  desk.hidden = at("who").hidden = true;
  form.hidden = false;
  Object.assign(form.elements.user, { value: user });
  Object.assign(form.elements.organization, { value: organization });
  state("out", "Not logged in");
  warn("");
  say(at("refusal"), why);
  form.elements[user ? "password" : "user"].focus();
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { user, password, organization } = form.elements;
  const submit = form.querySelector("button");
  say(at("refusal"), "");
  submit.disabled = true;
  try {
    await api.login(user.value, password.value, organization.value);
    password.value = "";
    await enter();
    document.querySelector("#tree .twig")?.focus();
  } catch (failure) {
    say(at("refusal"), failure.status === 401 ? "User, password or organisation is not right." : failure.message);
  } finally {
    submit.disabled = false;
  }
});
at("logout").addEventListener("click", () => leave(""));

if (api.session) enter();
else leave("");

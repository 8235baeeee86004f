// What a page does beyond its forms, where scripts run: copying, times in the viewer's zone, and forgetting a secret that
// was shown when the page is left. Every page works without this.
"use strict";

// Told to whoever listens to the page instead of looking at it.
function say(text) {
  document.getElementById("said").textContent = text;
}

for (const button of document.querySelectorAll("[data-copy]")) {
  const label = button.textContent;
  button.hidden = false;
  button.addEventListener("click", async () => {
    const text = document.getElementById(button.dataset.copy).textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
      say("Copied.");
    } catch {
      const range = document.createRange();
      range.selectNodeContents(document.getElementById(button.dataset.copy));
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      button.textContent = "Selected: press Ctrl+C";
      say("Selected. Press Control and C to copy.");
    }
    setTimeout(() => (button.textContent = label), 3000);
  });
}

function tellInOwnZone(part) {
  for (const time of part.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    const whole = at.toLocaleString(undefined, { dateStyle: "long", timeStyle: "long" });
    time.title = `${whole} (${time.title})`;
    if (time.dataset.form === "date") {
      time.textContent = at.toLocaleDateString(undefined, { dateStyle: "long" });
    } else if (time.dataset.form === "clock") {
      time.textContent = at.toLocaleTimeString(undefined, { timeStyle: "medium" });
    }
  }
}
tellInOwnZone(document);

// The parts of a page that change by themselves: the server sends them anew, each with the id of the one that it takes the
// place of. Watched only while the page is looked at; whoever listens to it is told what changed, not every number.
const live = document.querySelector("[data-live]");
if (live) {
  let source = null;
  const note = (text) => {
    for (const part of live.querySelectorAll("[data-live-note]")) part.textContent = text;
  };
  const take = (event) => {
    const sent = document.createElement("template");
    sent.innerHTML = event.data;
    for (const part of sent.content.querySelectorAll("[id]")) {
      const present = document.getElementById(part.id);
      if (!present) continue;
      if (part.dataset.say && part.dataset.say !== present.dataset.say) say(part.dataset.say);
      tellInOwnZone(part);
      present.replaceWith(part);
    }
    note("Live: it updates by itself.");
  };
  const watch = () => {
    if (document.hidden) {
      source?.close();
      source = null;
    } else if (!source) {
      source = new EventSource(live.dataset.live);
      source.addEventListener("key", take);
      source.addEventListener("error", () => {
        const over = source?.readyState === EventSource.CLOSED;
        note(over ? "Not live any more: reload the page to look again." : "Connecting again…");
      });
    }
  };
  document.addEventListener("visibilitychange", watch);
  addEventListener("pagehide", () => {
    source?.close();
    source = null;
  });
  addEventListener("pageshow", watch);
  watch();
}

// The page of a secret: reloading leads to the page behind it instead of posting its form again, and leaving it takes the
// secret out of what the browser may keep for going back. Its own link to that page must differ in more than the fragment,
// or the browser would take it for a place on this page.
const once = document.querySelector("[data-once]");
if (once) {
  history.replaceState(null, "", once.dataset.once);
  addEventListener("pagehide", () => {
    for (const code of once.querySelectorAll("code")) code.textContent = "(shown once)";
    for (const drawing of once.querySelectorAll("svg")) drawing.remove();
  });
}

// A form is sent once, however often its button is pressed: of two answers the browser would show the second, which says
// that the first one had the key.
addEventListener("submit", (event) => {
  if (event.target.dataset.sent) event.preventDefault();
  event.target.dataset.sent = "yes";
});
addEventListener("pageshow", () => {
  for (const form of document.forms) delete form.dataset.sent;
});

// Menus close when something else is pressed.
addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.switch[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});
addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.switch[open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

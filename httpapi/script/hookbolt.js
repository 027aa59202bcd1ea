// The script that a page loads to send its visitors' events; docs/browser.md tells how to use it. What is served is hookbolt.min.js, which
// has fewer than 2,048 bytes: go test ./httpapi -run TestScript -update makes it of this.
(() => {
  const source = document.currentScript?.src;

  // Not crypto.randomUUID: pages that come by plain HTTP do not have it.
  const uuid = () => "10000000-1000-4000-8000-100000000000".replace(/[018]/g, (c) =>
    (c ^ crypto.getRandomValues(new Uint8Array(1))[0] & 15 >> c / 4).toString(16));

  window.hookbolt = ({ token, url = source, ...session }) => {
    const target = new URL("v1/events", url);
    const prefix = "hookbolt " + target + " ";
    const key = prefix + uuid();
    const flushes = [];
    // The events that are not known to be on hookbolt's disk, oldest first. limit is how many characters a request has at the most, beyond
    // its first event: they have up to three bytes, and a browser sends no more than 64 KiB for a page that has ended.
    let queue = [], limit = 2e4, failures = 0, timer, busy, stopped, refused, rescued;
    session.session_id ||= uuid();

    // What a page leaves behind is taken up by the next one. Without storage, as in some private windows, it is lost.
    const save = () => {
      try {
        queue[0] ? localStorage.setItem(key, JSON.stringify(queue)) : localStorage.removeItem(key);
      } catch {}
    };

    const chunk = (from) => {
      let to = from + 1;
      while (queue[to] && JSON.stringify(queue.slice(from, to + 1)).length < limit) to++;
      return queue.slice(from, to);
    };

    // post tells whether it is any use to go on: not if hookbolt cannot be reached, or cannot take events at the moment.
    const post = async (events, keepalive) => {
      let status, detail;
      try {
        const answer = await fetch(target, { method: "POST", body: JSON.stringify(events), keepalive, signal: AbortSignal.timeout?.(3e4),
          headers: { Authorization: "Bearer " + token } });
        status = answer.status;
        ({ detail } = await answer.json()); // an answer that is not read would count as under way
      } catch {}
      if (!status || status == 408 || status == 429 || status > 499) return false;
      failures = 0;
      if (status > 299) {
        // Neither the token nor the address gets better by itself. What was not sent is kept for a page that has better ones.
        stopped ||= status != 400 && status != 413;
        // A request is stored as a whole or not at all. One by one, a bad event takes no other with it.
        if (!stopped && events[1]) return !(limit = 0);
        refused = true;
        console.error("hookbolt:", status, detail);
      }
      if (!stopped) {
        queue = queue.filter((event) => !events.includes(event));
        save();
      }
      return !stopped;
    };

    const later = (ms) => {
      clearTimeout(timer);
      timer = setTimeout(pump, ms);
    };

    // pump sends what there is, one request at a time, so that events arrive in their order.
    const pump = async () => {
      clearTimeout(timer);
      timer = 0;
      if (busy) return;
      busy = true;
      while (queue[0] && !stopped && await post(chunk(0)));
      busy = false;
      if (queue[0] && !stopped) return later(Math.min(1e3 * 2 ** failures++, 3e4) * (.5 + Math.random()));
      limit = 2e4;
      flushes.splice(0).forEach((resolve) => resolve(!refused));
    };

    // A page that is hidden may not come back, and one that ends takes with it what is on its way, but for what the browser is told to keep
    // alive. So everything goes out once more, in its order: events that hookbolt has already change nothing.
    const rescue = () => {
      if (stopped || rescued == queue.at(-1)) return;
      rescued = queue.at(-1);
      for (let at = 0, events; at < queue.length; at += events.length) post(events = chunk(at), true);
    };

    const add = (type, fields) => {
      queue.push({ ...session, type, ...fields, id: Date.now() + "-" + Math.random() });
      save();
      const soon = type != "vote" && type != "undo" && !failures;
      if (soon || !timer) later(soon ? 0 : 1e3);
    };

    try {
      for (const name of Object.keys(localStorage)) {
        if (name.startsWith(prefix)) {
          const left = localStorage[name];
          localStorage.removeItem(name);
          // After a day, hookbolt may have forgotten the session, and would take it for another one.
          queue.push(...JSON.parse(left).filter((event) => Date.now() - parseInt(event.id) < 864e5));
        }
      }
    } catch {}
    if (queue[0]) {
      save();
      later(0);
    }
    addEventListener("pagehide", rescue);
    addEventListener("visibilitychange", rescue);

    return {
      session_id: session.session_id,
      start: (more) => add("start", more),
      vote: (question_id, answer_id, more) => add("vote", { question_id, answer_id, ...more }),
      undo: (question_id, answer_id, more) => add("undo", { question_id, answer_id, ...more }),
      lead: (lead, more) => add("lead", { lead, ...more }),
      result: (result, more) => add("result_view", { result, ...more }),
      finish: (more) => add("finish", more),
      flush: () => new Promise((resolve) => { flushes.push(resolve); pump(); }),
    };
  };
})();

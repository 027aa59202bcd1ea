// The script that a page loads to send its visitors' events; docs/browser.md tells how to use it. What is served is hookbolt.min.js, which
// has fewer than 2,560 bytes: go test ./httpapi -run TestScript -update makes it of this.
(() => {
  const source = document.currentScript?.src;

  // Not crypto.randomUUID: pages that come by plain HTTP do not have it.
  const uuid = () => "10000000-1000-4000-8000-100000000000".replace(/[018]/g, (c) =>
    (c ^ crypto.getRandomValues(new Uint8Array(1))[0] & 15 >> c / 4).toString(16));

  // The storage throws where it is disabled or full, and anything may be in it.
  const attempt = (action) => {
    try {
      return action();
    } catch {}
  };

  window.hookbolt = ({ token, url = source, ...session }) => {
    const target = new URL("v1/events", url);
    const prefix = "hookbolt " + target + " ";
    const flushes = [];
    // The events that are not known to be on hookbolt's disk, oldest first: their JSON, and their key in the storage. limit is how many bytes
    // a request has at the most, beyond its first event: a browser sends no more than 64 KiB for a page that has ended.
    let queue = [], limit = 6e4, failures = 0, lastId = 0, timer, busy, stopped, refused, rescued;
    session.session_id ||= uuid();

    // Each event has an entry of its own in the storage, so that none is in the way of another. What could not be stored, as in some private
    // windows, is lost if its page ends before it could be sent.
    const forget = (key) => queue.some((event) => event.key == key) || attempt(() => localStorage.removeItem(key));

    // chunk returns the beginning of the queue. As every request begins there, events are stored in their order even if requests overtake
    // each other. Events that hookbolt has already change nothing.
    const chunk = () => {
      let to = 0, size = 0;
      while (queue[to] && (size += new Blob([queue[to].json]).size + 1) < limit) to++;
      return queue.slice(0, to || 1);
    };

    const complain = (...reason) => {
      refused = true;
      console.error("hookbolt:", ...reason);
    };

    // post tells whether it is any use to go on: not if hookbolt cannot be reached, or cannot take events at the moment.
    const post = async (events, keepalive) => {
      let status, detail;
      try {
        const answer = await fetch(target + "?partial=true", { method: "POST", body: "[" + events.map((event) => event.json) + "]", keepalive,
          signal: AbortSignal.timeout?.(3e4), headers: { Authorization: "Bearer " + token } });
        status = answer.status;
        const body = await answer.json(); // an answer that is not read would count as under way
        detail = body.detail;
        body.refused?.forEach((bad) => queue.includes(events[bad.index]) && complain(bad.field + ": " + bad.detail));
      } catch {}
      if (!status || status == 408 || status == 429 || status > 499) return false;
      failures = 0;
      if (status > 299) {
        // Neither the token nor the address gets better by itself. What was not sent is kept for a page that has better ones.
        stopped ||= status != 400 && status != 413;
        // This is about the request as a whole, such as its size. One by one, an event takes no other with it.
        if (!stopped && events[1]) return !(limit = 0);
        complain(status, detail);
        limit = 6e4;
      }
      if (!stopped) {
        queue = queue.filter((event) => !events.includes(event));
        events.forEach((event) => forget(event.key));
      }
      return !stopped;
    };

    const later = (ms) => {
      clearTimeout(timer);
      timer = setTimeout(pump, ms);
    };

    // pump sends what there is, one request at a time.
    const pump = async () => {
      clearTimeout(timer);
      timer = 0;
      if (busy) return;
      busy = true;
      while (queue[0] && !stopped && await post(chunk()));
      busy = false;
      if (queue[0] && !stopped) return later(Math.min(1e3 * 2 ** failures++, 3e4) * (.5 + Math.random()));
      limit = 6e4;
      // A refusal is told once, by the next flush.
      if (flushes[0]) refused = flushes.splice(0).forEach((resolve) => resolve(!refused && !queue[0]));
    };

    // A page that is hidden may not come back, and one that ends aborts its requests, except those that the browser keeps alive. So the queue
    // goes out once more, as much as the browser keeps alive, unless its last event is on its way like that already.
    const rescue = async () => {
      if (stopped || rescued == queue.at(-1)) return;
      rescued = queue.at(-1);
      const sent = await post(chunk(), true);
      rescued = undefined;
      if (sent) pump();
    };

    const add = (type, fields) => {
      // Ids grow, whatever the clock does: the next page sorts by them.
      lastId = Math.max(lastId + 1, Date.now());
      const id = lastId + "-" + Math.random(), key = prefix + id;
      let json;
      try {
        json = JSON.stringify({ ...session, type, ...fields, id });
      } catch (error) {
        return complain(error);
      }
      queue.push({ key, json });
      attempt(() => localStorage[key] = "[" + json + "]");
      const soon = type != "vote" && type != "undo" && !failures;
      if (soon || !timer) later(soon ? 0 : 1e3);
      // A hidden page may have ended before its next timer.
      if (document.hidden) rescue();
    };

    // The next page takes up what pages have left behind. What is no event, or too old, is removed.
    attempt(() => Object.keys(localStorage).sort().forEach((key) => {
      if (!key.startsWith(prefix)) return;
      attempt(() => JSON.parse(localStorage[key]).forEach((event) => attempt(() => {
        // After a day, hookbolt may have forgotten the session, and would take it for another one.
        if (Date.now() - parseInt(event.id) < 864e5) queue.push({ key, json: JSON.stringify(event) });
      })));
      forget(key);
    }));
    if (queue[0]) later(0);
    addEventListener("pagehide", rescue);
    addEventListener("visibilitychange", rescue);
    addEventListener("online", pump);

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

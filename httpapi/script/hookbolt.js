// The script that a page loads to send its visitors' events; docs/browser.md tells how to use it. What is served is hookbolt.min.js, which
// has fewer than 3,072 bytes: go test ./httpapi -run TestScript -update makes it of this.
{
  const source = document.currentScript?.src;

  // The storage throws where it is disabled or full, and anything may be in it.
  const attempt = (action) => {
    try {
      return action();
    } catch {}
  };

  // The URL of the page. A document of srcdoc has none of its own: it has that of the page around it. Fragments stay in the browser, as they may
  // have secrets. Every vote carries the URL, so it is cut.
  const pageURL = () => /[^#]{0,2000}/.exec(/^http/.test(location) ? location : document.baseURI)[0];

  const size = (event) => new Blob([event[1]]).size;

  window.hookbolt = (options) => {
    const storage = attempt(() => localStorage), query = new URL(pageURL()).searchParams, flushes = [];
    // The events that are not known to be on hookbolt's disk, oldest first: their JSON, and their key in the storage. limit is how many bytes
    // a request has at the most, beyond its first event: a browser sends no more than 64 KiB for a page that has ended.
    let queue = [], limit = 6e4, failures = 0, lastId = 0, target, headers, timer, busy, stopped, refused, rescued;

    const complain = (...reason) => {
      refused = true;
      attempt(() => console.error("hookbolt:", ...reason)); // a page may have replaced it
    };

    // copy returns what can be sent of a value that a page passes. Reading it may throw, whatever it looks like, so what cannot be sent is left
    // out alone. level is how many levels of objects and lists there may be: three in an event, which has answers, which have fields; one in
    // the options.
    const copy = (path, level, read) => {
      try {
        const value = read(), kind = {}.toString.call(value), list = Array.isArray(value);
        if (list || /t Obj/.test(kind) && !value.toJSON) {
          if (!level) throw kind;
          const made = list ? [] : {};
          Object.keys(value).map((name) => {
            const part = copy(path + "." + name, level - 1, () => value[name]);
            if (part !== undefined) made[name] = part;
          });
          return made;
        }
        if (value == null) return value;
        // Dates and URLs are text in JSON, and new String("a") is "a".
        const json = JSON.stringify(typeof value == "bigint" ? value + "" : value);
        // Half an emoji, where text was cut, becomes U+FFFD. Older browsers leave this to hookbolt.
        if (level < 3 && /^[^nu[{]/.test(json)) return JSON.parse(json, (_, value) => value.toWellFormed?.() ?? value);
        throw kind;
      } catch (error) {
        complain("dropped", path, error);
      }
    };

    // What the page does not say comes from its URL.
    const { token, url = source, cookieless, ...session } =
      { publisher_uuid: query.get("puid") || query.get("uuid"), custom_id: query.get("custom_id"), ...copy("hookbolt", 1, () => options) };

    // What is no id would have hookbolt refuse every event: another one is made up.
    const valid = (id, form) => form.test(id) ? id : id ? complain("dropped", id) : undefined;

    // The URL of a blob ends with a random UUID. Pages that come by plain HTTP do not have crypto.randomUUID.
    session.session_id = valid(session.session_id, /^[\da-f-]{36}$/i) || URL.createObjectURL(new Blob).slice(-36);
    // A visitor whom the page does not know gets a number, which stays in the browser unless the page or the browser is against it. Every reader of
    // JSON keeps integers of this size.
    const key = "hookbolt id", number = Math.ceil(Math.random() * 9e15);
    session.poltio_user_id = valid(session.poltio_user_id, /^-?\d{1,19}$/) ??
      attempt(() => cookieless ? storage.removeItem(key) : storage[key] = parseInt(storage[key]) % 9e15 || number) ?? number;

    try {
      target = new URL("v1/events", url);
      headers = new Headers({ Authorization: "Bearer " + token });
    } catch (error) {
      stopped = true;
      complain(error);
    }
    const prefix = "hookbolt " + target + " ";

    // Each event has an entry of its own in the storage, so that none is in the way of another. What could not be stored, as in some private
    // windows, is lost if its page ends before it could be sent.
    const forget = ([key]) => queue.some((event) => event[0] == key) || attempt(() => delete storage[key]);

    // post sends the first events of a list. As every request begins with the oldest ones, events are stored in their order even if requests
    // overtake each other. Events that hookbolt has already change nothing.
    // It tells whether it is any use to go on: not if hookbolt cannot be reached, or cannot take events at the moment.
    const post = async (list, keepalive) => {
      let bytes = 0, body, status;
      const events = list.filter((event, i) => (bytes += size(event) + 1) < limit || !i);
      try {
        const answer = await fetch(target + "?partial=true", { method: "POST", body: `[${events.map((event) => event[1])}]`, keepalive,
          signal: AbortSignal.timeout(3e4), headers });
        status = answer.status;
        body = await answer.json(); // an answer that is not read would count as under way
        // An error that refuses the whole request has neither list.
        [...body.refused, ...body.left_out].map((bad) => queue.includes(events[bad.index]) && complain("dropped", bad.field, bad.detail));
      } catch {}
      if (!status || status == 408 || status == 429 || status > 499) return false;
      failures = 0;
      if (status > 299) {
        // Neither the token nor the address gets better by itself. What was not sent is kept for a page that has better ones.
        stopped ||= status != 400 && status != 413;
        // This is about the request as a whole, such as its size. One by one, an event takes no other with it.
        if (!stopped && events[1]) return !(limit = 0);
        complain(status, body?.detail);
      }
      if (!stopped) {
        queue = queue.filter((event) => !events.includes(event));
        events.map(forget);
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
      while (queue[0] && !stopped && await post(queue));
      busy = false;
      if (queue[0] && !stopped) return later(Math.min(1e3 * 2 ** failures++, 3e4) * (.5 + Math.random()));
      limit = 6e4;
      // A refusal is told once, by the next flush.
      if (flushes[0]) refused = flushes.splice(0).forEach((resolve) => resolve(!refused && !queue[0]));
    };

    // A page that is hidden may not come back, and one that ends aborts its requests, except those that the browser keeps alive. So the queue
    // goes out once more, as much as the browser keeps alive, unless its last event is on its way like that already. An event that is too
    // large for this must not take the others with it.
    const rescue = async () => {
      const small = queue.filter((event) => size(event) < 6e4), last = small.at(-1);
      if (stopped || rescued == last) return;
      rescued = last;
      if (await post(small, true)) pump();
      rescued = null;
    };

    const add = (type, more, fields, slow = failures) => {
      // Ids grow, whatever the clock does: the next page sorts by them.
      const id = (lastId = Math.max(lastId + 1, Date.now())) + "-" + Math.random();
      const made = { ...session, type, ...copy(type, 3, () => fields), ...copy(type, 3, () => more), id };
      if (made.answers?.map) {
        made.answers = made.answers.map((answer) => ({ parent: made.parent, ...answer }));
        made.parent = null;
      }
      const event = [prefix + id, JSON.stringify(made)];
      queue.push(event);
      // What hookbolt does not take anyway, by default, must not fill the storage.
      if (target && size(event) < 1e6) attempt(() => storage[event[0]] = "[" + event[1] + "]");
      if (!(slow && timer)) later(slow && 1e3);
      // A hidden page may have ended before its next timer.
      if (document.hidden) rescue();
    };

    const answer = (type, parent) => (question_id, answer_id, more) => add(type, more, { question_id, answer_id, parent: parent?.() }, 1);

    // The next page takes up what pages have left behind. What is no event, or too old, is removed.
    attempt(() => Object.keys(storage).sort().map((key) => {
      if (!key.startsWith(prefix)) return;
      attempt(() => JSON.parse(storage[key]).map((event) => attempt(() => {
        // After a day, hookbolt may have forgotten the session, and would take it for another one.
        if (Date.now() - parseInt(event.id) < 864e5) queue.push([key, JSON.stringify(event)]);
      })));
      forget([key]);
    }));
    if (queue[0]) later(0);
    ["pagehide", "visibilitychange", "online"].map((event) => addEventListener(event, rescue));

    return {
      session_id: session.session_id,
      start: (more) => add("start", more),
      vote: answer("vote", pageURL),
      undo: answer("undo"),
      lead: (lead, more) => add("lead", more, { lead }),
      result: (result, more) => add("result_view", more, { result }),
      finish: (more) => add("finish", more),
      flush: () => new Promise((resolve) => pump(flushes.push(resolve))),
    };
  };
}

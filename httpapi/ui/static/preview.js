// livePreview asks for the preview beside the form of a webhook while somebody types in it. The answer is the form: only what has data-preview
// is taken over, so that nothing that was typed is lost.
function livePreview() {
  const panel = document.getElementById("preview");
  const button = document.getElementById("preview-now");
  if (!panel || !button) return;
  const form = button.form;
  let wait = 0;
  let under = null; // the request under way: an older one must not come in after a newer one
  const trouble = (text) => {
    const note = document.getElementById("preview-stale");
    note.textContent = text;
    note.hidden = !text;
  };
  const ask = async () => {
    clearTimeout(wait);
    under?.abort();
    const mine = new AbortController();
    under = mine;
    const slow = setTimeout(() => mine.abort(), 20000);
    try {
      const answer = await fetch(button.formAction, { method: "POST", body: new URLSearchParams(new FormData(form)), cache: "no-store", signal: mine.signal });
      const text = await answer.text();
      if (mine !== under) return;
      if (answer.status === 401) throw new Error("You are signed out. Sign in again in another tab, then go on here.");
      if (!answer.ok) throw new Error("");
      const fresh = new DOMParser().parseFromString(text, "text/html");
      for (const now of document.querySelectorAll("[data-preview]")) {
        const then = fresh.getElementById(now.id);
        if (then) { morph(now, then); enhance(now); }
      }
    } catch (e) {
      if (mine === under) trouble((e.name === "Error" && e.message) || "hookbolt does not answer. What you see is older than what you have typed.");
    } finally {
      clearTimeout(slow);
    }
  };
  const typed = () => {
    panel.dataset.stale = "";
    under?.abort();
    under = null;
    clearTimeout(wait);
    wait = setTimeout(ask, 300);
  };
  form.addEventListener("input", typed);
  panel.addEventListener("input", typed); // its select is outside of the form
  form.addEventListener("submit", (event) => {
    if (event.submitter !== button) return;
    event.preventDefault();
    ask();
  });
  ask();
}

livePreview();

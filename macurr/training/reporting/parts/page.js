(() => {
  "use strict";
  const box = document.getElementById("reading");

  // What lies under the pointer of a curve is told beside it.
  for (const figure of document.querySelectorAll("[data-reading]")) {
    const data = JSON.parse(figure.dataset.reading);
    const svg = figure.querySelector("svg");
    const [, top, , bottom] = data.box;
    const cursor = document.createElementNS("http://www.w3.org/2000/svg", "line");
    cursor.setAttribute("class", "cursor");
    cursor.setAttribute("y1", top);
    cursor.setAttribute("y2", bottom);
    cursor.style.display = "none";
    svg.append(cursor);

    const hide = () => {
      cursor.style.display = "none";
      box.hidden = true;
    };
    const show = (event) => {
      const frame = svg.getBoundingClientRect();
      const x = ((event.clientX - frame.left) / frame.width) * svg.viewBox.baseVal.width;
      let at = 0;
      data.at.forEach((place, i) => {
        if (Math.abs(place - x) < Math.abs(data.at[at] - x)) at = i;
      });
      cursor.setAttribute("x1", data.at[at]);
      cursor.setAttribute("x2", data.at[at]);
      cursor.style.display = "";
      tell(data, at);
      place(event);
    };
    svg.addEventListener("pointermove", show);
    svg.addEventListener("pointerleave", hide);
    window.addEventListener("scroll", hide, { passive: true });
  }

  function tell(data, at) {
    const head = document.createElement("b");
    head.textContent = data.head[at];
    const rows = data.rows.map((row) => {
      const line = document.createElement("span");
      const name = document.createElement("em");
      const chip = document.createElement("i");
      chip.className = "chip";
      chip.style.background = `var(--${row.colour})`;
      name.style.fontStyle = "normal";
      name.append(chip, row.name);
      line.append(name, row.said[at]);
      return line;
    });
    box.replaceChildren(head, ...rows);
    box.hidden = false;
  }

  function place(event) {
    const { offsetWidth: width, offsetHeight: height } = box;
    const right = event.clientX + 16 + width < window.innerWidth;
    box.style.left = `${right ? event.clientX + 16 : Math.max(4, event.clientX - width - 16)}px`;
    box.style.top = `${Math.max(4, Math.min(event.clientY - height / 2, window.innerHeight - height - 4))}px`;
  }

  // A film begins at its beginning each time it is asked for.
  const films = [...document.querySelectorAll(".play input")];
  for (const input of films) {
    const film = input.parentElement.querySelector(".moving");
    input.addEventListener("change", () => {
      if (input.checked) film.src = film.getAttribute("src");
      label();
    });
  }
  const all = document.querySelector("[data-play-all]");
  const playing = () => films.length > 0 && films.every((input) => input.checked);
  function label() {
    if (all) all.textContent = playing() ? "Stop all" : "Play all";
  }
  if (all) {
    all.hidden = false;
    all.addEventListener("click", () => {
      const wanted = !playing();
      for (const input of films) {
        if (input.checked !== wanted) {
          input.checked = wanted;
          input.dispatchEvent(new Event("change"));
        }
      }
    });
  }

  // The section being read is marked above.
  const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
  if ("IntersectionObserver" in window) {
    const seen = new IntersectionObserver(
      (entries) => {
        for (const entry of entries) {
          if (!entry.isIntersecting) continue;
          for (const link of links.values()) link.classList.remove("here");
          const link = links.get(entry.target.id);
          link?.classList.add("here");
          // On a narrow screen the list of sections scrolls too: the one being read stays in view.
          if (link) link.closest("ul").scrollLeft = link.offsetLeft - 16;
        }
      },
      { rootMargin: "-20% 0px -75% 0px" },
    );
    document.querySelectorAll("main section").forEach((section) => seen.observe(section));
  }
})();

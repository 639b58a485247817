// What search shows of a page: Sphinx takes the text of `main`, in which this theme also has its buttons and the contents.
if (typeof Search !== "undefined") {
  Search.htmlToText = (html, anchor) => {
    const page = new DOMParser().parseFromString(html, "text/html");
    page.querySelectorAll(".headerlink, script, style").forEach((each) => each.remove());
    const article = page.querySelector("article.bd-article");
    const part = anchor && article?.querySelector(anchor);
    return ((part || article)?.textContent ?? "").replace(/\s+/g, " ").trim();
  };
}

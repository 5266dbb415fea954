// Recovers the node below ROOT: c++ -std=c++17 recover.cpp -lcprecover && ./a.out ROOT
#include <cprecover.h>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

template <auto Free> struct Freed { template <class T> void operator()(T *p) const { Free(p); } };
using Node = std::unique_ptr<cpr_node, Freed<cpr_node_free>>;
using Error = std::unique_ptr<cpr_error, Freed<cpr_error_free>>;

// Calls f with a place for an error, and throws what it finds there.
template <class F> void call(F f) {
    cpr_error *error = nullptr;
    if (f(&error) == CPR_OK) return;
    Error owned(error);
    throw std::runtime_error(std::string(cpr_error_message(error)) + " (" + cpr_status_name(cpr_error_code(error)) + ")");
}

static void print(void *, int32_t, const char *, size_t, const char *message, size_t length) {
    std::clog << std::string_view(message, length) << '\n';
}

int main(int argc, char **argv) try {
    std::string_view root = argc > 1 ? argv[1] : "/";
    cpr_node_options options{};
    options.root = root.data();
    options.root_len = root.size();
    cpr_call watched{};
    watched.log = print;
    cpr_node *opened = nullptr;
    call([&](cpr_error **error) { return cpr_node_open(&options, sizeof options, &opened, error); });
    Node node(opened);
    cpr_buf text{};
    call([&](auto e) { return cpr_recover(opened, nullptr, nullptr, 0, &watched, sizeof watched, &text, e); });
    std::string report(reinterpret_cast<char *>(text.ptr), text.len);
    cpr_buf_free(&text);
    std::cout << report << '\n';
    return report.find(R"("ending":{"state":"healthy"})") == std::string::npos;
} catch (const std::exception &error) { std::cerr << error.what() << '\n'; return 1; }

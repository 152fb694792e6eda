// Reads vectors of a bundle and compares: rows of an SMM, LANES columns of each.
module tb_row;
    parameter M = 1;
    parameter K = 1;
    parameter LANES = 4;
    parameter STEPS = 16;
    reg clk = 0;
    reg clear = 0, load = 0;
    reg [31:0] codes [0:M*K-1];
    reg [LANES*32-1:0] rows [0:K-1];
    reg [LANES*64-1:0] expected [0:M-1];
    reg [31:0] code;
    reg [LANES*32-1:0] row;
    wire [LANES*64-1:0] acc;
    wire busy;
    integer m, k, errors = 0;

    expg1_row #(.LANES(LANES), .STEPS(STEPS)) dut (
        .clk(clk), .clear(clear), .load(load), .code(code), .row(row), .acc(acc), .busy(busy));
    always #1 clk = ~clk;

    initial begin
        $readmemh("code.hex", codes);
        $readmemh("weight.hex", rows);
        $readmemh("sum.hex", expected);
        for (m = 0; m < M; m = m + 1) begin
            @(negedge clk) clear = 1;
            @(negedge clk) clear = 0;
            for (k = 0; k < K; k = k + 1) begin
                code = codes[m*K + k];
                row = rows[k];
                load = 1;
                @(negedge clk) load = 0;
                while (busy) @(negedge clk);
            end
            if (acc !== expected[m]) errors = errors + 1;
        end
        $display("row: %0d vectors, %0d errors", M, errors);
        $finish;
    end
endmodule
